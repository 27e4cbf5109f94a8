"""The share of the encoder's speed that the Ray pipeline reaches, and how many encoders it can keep busy.

Efficiency: frames/s of the whole pipeline (track, crop, encode, store, commit, on Ray) divided by the
frames/s of one plain process. The process calls the same track, decode, crop, encode and error functions on
the same frames, with as many torch threads as the pipeline has CPUs. Both rates are slopes between a short
and a long run, so that they do not include the start-up (Ray Data, workers, weights), which is printed
separately. Runs alternate, and medians are compared. The rate of the encoder alone, on crops in memory, is
printed too.

Ceiling (--ceiling): the same Ray Data stages with a STAND-IN for the encoder. It takes blocks of 64 frames
and only waits as long as an encoder with --stand-in-hz frames/s would compute; it uses no torch and no store.
The result is the number of encoders that are kept busy, and the rate at the knee, beyond which less than 0.95
of the encoders' rate is reached. The busy share of all cores and the driver's share of one core show what the
limit was.

    python benchmarks/inversion.py --frames 5000
    python benchmarks/inversion.py --ceiling
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray.data
import torch

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import Block, Inversion
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.plan import inversion_of
from svgan_ray.orchestration.invert.stream import (
    configure_data,
    encoder_pool,
    encoder_resources,
    stream,
    without_retries,
)
from svgan_ray.orchestration.runtime.choosing import expand
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.orchestration.runtime.weights import publish_networks
from svgan_ray.store import LatentStore, open_store

RATE_HZ = 25
VIDEOS = 4
STAND_IN_FRAMES = 64
ACTORS = (1, 2, 4, 8, 16, 32, 64)
KNEE = 0.95


@dataclasses.dataclass(frozen=True)
class Run:
    """Seconds that two sets of frames took, the short one and the long one."""

    short_frames: int
    short_s: float
    long_frames: int
    long_s: float

    @property
    def frames_per_s(self) -> float:
        """Frames/s as the slope between the two runs."""
        return (self.long_frames - self.short_frames) / (self.long_s - self.short_s)

    @property
    def start_up_s(self) -> float:
        """The time of the short run that the frames do not explain at that rate."""
        return self.short_s - self.short_frames / self.frames_per_s


def footage(folder: Path, name: str, frames: int, videos: int) -> list[Source]:
    seconds = frames / videos / RATE_HZ
    return expand(map(str, demo_footage(folder=str(folder / name), subjects=videos, seconds=seconds)))


def new_job(folder: Path, weights: str, source: Source) -> tuple[InvertConfig, Inversion, LatentStore]:
    """The settings and the inversion of a job with a new, empty store."""
    store = open_store(tempfile.mkdtemp(dir=folder), create=True)
    config = InvertConfig(videos=(source.uri,), store=store.uri, weights=weights)
    publish_networks(store, config)
    return config, inversion_of(config, store.uri), store


def blocks_of(job: Inversion, sources: list[Source]) -> Iterator[Block]:
    for source in sources:
        yield from (item for item in track_source(job, source, frozenset()) if isinstance(item, Block))


def plain_s(folder: Path, weights: str, sources: list[Source]) -> tuple[int, float]:
    """The number of frames, and the seconds of one process that does everything in sequence."""
    _, job, store = new_job(folder, weights, sources[0])
    encoder = BlockEncoder(job, store, "plain")
    began_s, frames = time.perf_counter(), 0
    for block in blocks_of(job, sources):
        tensors, _, _ = encoder.compute(crop_block(block, job.crop_side))
        frames += len(tensors["w_plus"])
    return frames, time.perf_counter() - began_s


def pipeline_s(folder: Path, weights: str, sources: list[Source]) -> tuple[int, float]:
    """The number of frames, and the seconds of the pipeline from the first call to the last commit."""
    config, job, store = new_job(folder, weights, sources[0])
    ledger, began_s = Ledger(store, job, {}), time.perf_counter()
    for item in stream(config, job, sources, frozenset(), encoder_resources(config)):
        ledger.take(item)
    ledger.settle()
    assert not ledger.failures and all(map(ledger.is_settled, sources))
    return ledger.encoded_frames, time.perf_counter() - began_s


def bare_frames_per_s(folder: Path, weights: str, sources: list[Source]) -> float:
    """Frames/s of the encoder alone, on the crops of one block."""
    _, job, store = new_job(folder, weights, sources[0])
    encoder = BlockEncoder(dataclasses.replace(job, error_every_frames=10**9), store, "bare")
    block = next(block for block in blocks_of(job, sources) if block.number == 1)
    crops = crop_block(block, job.crop_side)
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        encoder.compute(crops)
        times.append(time.perf_counter() - began_s)
    return len(crops.frames) / statistics.median(times)


def efficiency(options: argparse.Namespace, folder: Path) -> None:
    short = footage(folder, "short", VIDEOS * 64, VIDEOS)
    long = footage(folder, "long", options.frames, VIDEOS)
    torch.set_num_threads(os.cpu_count() or 1)
    runs: dict[Any, list[Run]] = {plain_s: [], pipeline_s: []}
    bare: list[float] = []
    with connect():
        for _ in range(options.repetitions):
            bare.append(bare_frames_per_s(folder, options.weights, long))
            for measure, found in runs.items():
                found.append(
                    Run(*measure(folder, options.weights, short), *measure(folder, options.weights, long))
                )
    plain, pipeline = (statistics.median(run.frames_per_s for run in found) for found in runs.values())
    ratio = statistics.median(
        ours.frames_per_s / theirs.frames_per_s
        for theirs, ours in zip(runs[plain_s], runs[pipeline_s], strict=True)
    )
    start_up_s = statistics.median(run.start_up_s for run in runs[pipeline_s])
    print(f"{options.frames} frames, {os.cpu_count()} CPUs, {options.repetitions} repetitions, medians")
    print(f"{'bare encoder':<24}{statistics.median(bare):>10.1f} frames/s")
    print(f"{'plain process':<24}{plain:>10.1f} frames/s")
    print(f"{'Ray pipeline':<24}{pipeline:>10.1f} frames/s, after {start_up_s:.1f} s of start-up")
    print(f"{'pipeline / plain':<24}{ratio:>10.3f}  (bar: 0.90)")
    print(f"{'pipeline / bare':<24}{pipeline / statistics.median(bare):>10.3f}")


class StandIn:
    """A replacement for an encoder, which takes one block at a time and waits."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.encoding = threading.Lock()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        with self.encoding:
            time.sleep(self.seconds)
        return {"item": len(row["item"].frames)}


def _stand_in_crops(row: dict[str, Any], side: int) -> dict[str, Any]:
    """An object around an array, as the pipeline's rows are."""
    return {"item": SimpleNamespace(frames=np.zeros((STAND_IN_FRAMES, side, side, 3), np.uint8))}


@dataclasses.dataclass(frozen=True)
class Point:
    """A measurement with some stand-ins; `driver_share` is of one core, `cores_share` of all cores."""

    actors: int
    blocks_per_s: float
    efficiency: float
    driver_share: float
    cores_share: float


def point(actors: int, hz: float, side: int, seconds: float) -> Point:
    """Measure blocks per second through crop tasks and waiting actors, while all actors are busy."""
    configure_data({})
    blocks = max(int(actors * seconds * hz / STAND_IN_FRAMES), 8 * actors)
    rows = ray.data.from_items([{"item": i} for i in range(blocks)], override_num_blocks=blocks)
    crops = without_retries(rows.map, _stand_in_crops, fn_args=(side,), num_cpus=0.3)  # they hardly compute
    waiting = without_retries(
        crops.map,
        StandIn,
        fn_constructor_args=(STAND_IN_FRAMES / hz,),
        compute=encoder_pool(actors, actors),
        num_cpus=0.4 / actors,
    )
    readings = [(time.perf_counter(), time.process_time(), _busy_s()) for _ in waiting.iter_rows()]
    # The time span begins when every actor can have returned a block, and ends before blocks run out.
    first, last = readings[actors - 1], readings[-actors - 1]
    wall_s, driver_s, busy_s = (end - begin for begin, end in zip(first, last, strict=True))
    rate = (blocks - 2 * actors) / wall_s
    return Point(
        actors,
        rate,
        rate * STAND_IN_FRAMES / hz / actors,
        driver_s / wall_s,
        busy_s / wall_s / (os.cpu_count() or 1),
    )


def _busy_s() -> float:
    """The seconds that all cores together have been busy since the machine started."""
    user, nice, system, _, _, interrupts, soft_interrupts = map(
        int, Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def ceiling(options: argparse.Namespace) -> None:
    block_mb = STAND_IN_FRAMES * options.side**2 * 3 / 1e6
    print(
        f"STAND-IN encoder: waits {STAND_IN_FRAMES / options.stand_in_hz:.2f} s a block of {STAND_IN_FRAMES} "
        f"frames of {options.side} px ({block_mb:.1f} MB), {options.stand_in_hz:g} frames/s an actor, "
        f"{os.cpu_count()} CPUs"
    )
    header = ("actors", "blocks/s", "frames/s", "MB/s", "efficiency", "driver", "cores")
    print("".join(f"{name:>11}" for name in header))
    knee = None
    with connect():
        ray.data.DataContext.get_current().wait_for_min_actors_s = 600
        for actors in options.actors:
            found = point(actors, options.stand_in_hz, options.side, options.seconds)
            rate = found.blocks_per_s
            print(
                f"{actors:>11}{rate:>11.2f}{rate * STAND_IN_FRAMES:>11.0f}{rate * block_mb:>11.0f}"
                f"{found.efficiency:>11.3f}{found.driver_share:>11.2f}{found.cores_share:>11.2f}",
                flush=True,
            )
            if found.efficiency >= KNEE:
                knee = found
    if knee:
        rate = knee.blocks_per_s
        print(
            f"knee: {knee.actors} actors, {rate:.1f} blocks/s, {rate * STAND_IN_FRAMES:.0f} frames/s, "
            f"{rate * block_mb:.0f} MB/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--ceiling", action="store_true", help="measure the ceiling instead")
    parser.add_argument("--actors", type=int, nargs="+", default=ACTORS, help="of the ceiling")
    parser.add_argument("--stand-in-hz", type=float, default=50.0, help="frames/s of a stand-in actor")
    parser.add_argument("--side", type=int, default=256, help="pixels of the stand-in's crops")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each point of the ceiling")
    options = parser.parse_args()
    if options.ceiling:
        return ceiling(options)
    with tempfile.TemporaryDirectory() as folder:
        efficiency(options, Path(folder))


if __name__ == "__main__":
    main()
