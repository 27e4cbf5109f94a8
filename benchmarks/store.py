"""How fast the store moves chunks, and how fast an inversion plans and commits, over S3.

    cluster/start_s3.sh /tmp/s3 > /tmp/s3.env; set -a; . /tmp/s3.env; set +a
    python benchmarks/store.py transfer --store s3://benchmark/a --megabytes 1000
    python benchmarks/store.py planning --store s3://benchmark/b --clips 1000 10000 100000
    python benchmarks/store.py commits --store s3://benchmark/c --clips 400 --delay-ms 50
    python benchmarks/store.py catalog --store /tmp/catalog --clips 100000

`transfer` writes and reads the same chunks through the store (encoded, hashed, verified, decoded) and with
plain boto3 calls of the same bytes and the same number of threads, in turns. It prints medians and the ratio
of sums. `planning` fills a store with committed clips, five per video, and measures the planning of a run in
which nothing is left to do, and the peak memory of this process. `commits` lets a driver commit clips of one
short chunk to a store in which every request takes --delay-ms longer, and compares that with the same commits
one after the other. `catalog` makes the table of --clips committed clips, and then updates it when there is
nothing new.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import resource
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import boto3
import numpy as np
import torch
from botocore.config import Config
from torch import Tensor

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.items import BLOCK_FRAMES, Chunk, Clip, Inversion
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.plan import inversion_of, plan_sources
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store import (
    Backend,
    ChunkRef,
    ClipRecord,
    CommitRecord,
    LatentStore,
    TrackRecord,
    keys,
    open_store,
)
from svgan_ray.store.catalog import update_catalog
from svgan_ray.store.codec import encode_chunk
from svgan_ray.store.outlines import outline_name

MEGABYTE = 10**6
NUM_WS, W_DIM = 18, 512
CLIPS_A_VIDEO, CLIP_FRAMES = 5, 1500
CHUNK_FRAMES = 4
FILLING_THREADS = 16


def chunks_of(size_bytes: int) -> list[dict[str, Tensor]]:
    """Different chunks like those of an inversion at 1024 px, with `size_bytes` in total."""
    count = max(1, round(size_bytes / (BLOCK_FRAMES * NUM_WS * W_DIM * 4)))
    w_plus = torch.randn(BLOCK_FRAMES, NUM_WS, W_DIM)
    return [
        {
            "w_plus": w_plus + number,
            "quad": torch.rand(BLOCK_FRAMES, 4, 2),
            "time_s": torch.arange(BLOCK_FRAMES, dtype=torch.float64) / 25,
            "error": torch.zeros(BLOCK_FRAMES),
            "interpolated": torch.zeros(BLOCK_FRAMES, dtype=torch.bool),
        }
        for number in range(count)
    ]


@dataclass
class Round:
    """One repetition: the same chunks through the store and through boto3, under new names."""

    store: LatentStore
    client: Any
    chunks: list[dict[str, Tensor]]
    encoded: list[bytes]
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    refs: dict[int, ChunkRef] = field(default_factory=dict)

    def put(self, number: int) -> None:
        """Store a chunk."""
        self.refs[number] = self.store.put_chunk(self.name, "clip", number, self.chunks[number])

    def get(self, number: int) -> None:
        """Read a chunk."""
        self.store.read_chunk(self.refs[number])

    def raw_put(self, number: int) -> None:
        """Send the same bytes."""
        self.client.put_object(**self._target(number), Body=self.encoded[number])

    def raw_get(self, number: int) -> None:
        """Fetch the same bytes."""
        with contextlib.closing(self.client.get_object(**self._target(number))["Body"]) as body:
            body.read()

    def clear(self) -> None:
        """Delete the objects of this round."""
        for number, ref in self.refs.items():
            self.client.delete_object(**self._target(number))
            self.store.backend.delete(ref.key)

    def _target(self, number: int) -> dict[str, str]:
        bucket, _, prefix = self.store.uri.removeprefix("s3://").partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/raw/{self.name}/{number}"}


def transfer(uri: str, megabytes: int, threads: int, repetitions: int) -> None:
    """Print MB/s of the store and of boto3 alone, and this process's CPU time per GB."""
    chunks = chunks_of(megabytes * MEGABYTE)
    encoded = [encode_chunk(chunk, "benchmark")[0] for chunk in chunks]
    total_mb = sum(map(len, encoded)) / MEGABYTE
    client = boto3.client("s3", config=Config(max_pool_connections=threads))
    store = open_store(uri, create=True)
    seconds: dict[str, list[float]] = {"raw_put": [], "put": [], "raw_get": [], "get": []}
    cpu_s: dict[str, list[float]] = {name: [] for name in seconds}
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(repetitions):
            this = Round(store, client, chunks, encoded)
            for name in ("put", "raw_put", "get", "raw_get") if turn % 2 else list(seconds):
                began_cpu_s = time.process_time()
                seconds[name].append(timed_s(pool, getattr(this, name), len(chunks)))
                cpu_s[name].append(time.process_time() - began_cpu_s)
            this.clear()
    print(f"{total_mb:,.0f} MB in {len(chunks)} chunks, {threads} threads, {repetitions} repetitions")
    for name in ("put", "get"):
        own, raw = seconds[name], seconds[f"raw_{name}"]
        ratio = sum(raw) / sum(own)  # each goes first as often: the server is busy with what came before
        own_mb_s, raw_mb_s = (total_mb / statistics.median(values) for values in (own, raw))
        own_cpu, raw_cpu = (statistics.median(cpu_s[key]) / total_mb * 1000 for key in (name, f"raw_{name}"))
        print(
            f"{name}: store {own_mb_s:,.0f} MB/s, boto3 {raw_mb_s:,.0f} MB/s, ratio {ratio:.2f}; "
            f"CPU of the client a GB {own_cpu:.2f} s and {raw_cpu:.2f} s"
        )


def timed_s(pool: ThreadPoolExecutor, call: Callable[[int], None], count: int) -> float:
    """Seconds until the pool has made all calls."""
    began_s = time.perf_counter()
    list(pool.map(call, range(count)))
    return time.perf_counter() - began_s


def source_of(number: int) -> Source:
    """An inverted video, as planning finds it in a listing of footage."""
    return Source(f"s3://footage/{number:08d}.mp4", 10**8 + number, "1")


def video_objects(job: Inversion, number: int) -> Iterator[tuple[str, bytes]]:
    """The objects of a finished video in the store, without the content, which planning does not read."""
    source, video_id = source_of(number), hashlib.sha256(str(number).encode()).hexdigest()
    spans = [(i * CLIP_FRAMES, (i + 1) * CLIP_FRAMES) for i in range(CLIPS_A_VIDEO)]
    clips = tuple(ClipRecord(keys.clip_id(video_id, job.tracking_id, *span), *span) for span in spans)
    track = TrackRecord(
        job.tracking_id, video_id, source.uri, "anna", "pyav", spans[-1][1], 25.0, 1920, 1080, clips, (), {}
    )
    tensors_key = keys.track_tensors(job.tracking_id, video_id, outline_name(track), video_id)
    yield keys.source(source.id, video_id), b""
    yield tensors_key, b""
    yield keys.track(job.tracking_id, video_id), track.to_json()
    for clip in clips:
        commit = CommitRecord(
            job.inversion_id, clip.clip_id, job.tracking_id, video_id, "anna", clip.first_frame,
            clip.stop_frame, 25.0, NUM_WS, W_DIM, job.generator_sha256, job.encoder_sha256, (), None, "node",
        )  # fmt: skip
        yield keys.commit(job.inversion_id, clip.clip_id), commit.to_json()


def fill(store: LatentStore, job: Inversion, numbers: range) -> None:
    """Write the objects of these videos."""

    def put(number: int) -> None:
        for key, data in video_objects(job, number):
            store.backend.put(key, data)

    with ThreadPoolExecutor(FILLING_THREADS) as pool:
        list(pool.map(put, numbers))


def planning(uri: str, clips: list[int]) -> None:
    """Print the seconds and memory of planning, for increasing numbers of committed clips."""
    config = InvertConfig(store=uri)
    job, store, filled = inversion_of(config, uri), open_store(uri, create=True), 0
    for count in sorted(clips):
        videos = count // CLIPS_A_VIDEO
        fill(store, job, range(filled, videos))
        filled = videos
        began_s = time.perf_counter()
        plan = plan_sources(config, job, store, [source_of(number) for number in range(videos)])
        elapsed_s = time.perf_counter() - began_s
        assert len(plan.done) == videos and not plan.todo
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
        rate = f"{elapsed_s / count * 1e6:.0f} µs a clip"
        print(f"{count:,} clips: {elapsed_s:.2f} s, {rate}, peak memory {peak_mb:.0f} MB", flush=True)


def catalog(uri: str, count: int) -> None:
    """Print seconds and rate of making a catalog, and of updating it when nothing is new."""
    store = open_store(uri, create=True)
    job = inversion_of(InvertConfig(store=uri), uri)
    fill(store, job, range(count // CLIPS_A_VIDEO))
    for name in ("from nothing", "nothing new"):
        began_s = time.perf_counter()
        report = update_catalog(store)
        elapsed_s = time.perf_counter() - began_s
        assert report.rows == count
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
        rate = f"{count / elapsed_s:,.0f} rows/s, peak memory {peak_mb:.0f} MB"
        print(f"{name}: {count:,} rows in {elapsed_s:.1f} s, {rate}")


def stored_clips(store: LatentStore, job: Inversion, count: int) -> list[Chunk]:
    """Clips of one chunk each, which are stored but not yet committed."""
    tensors = {name: tensor[:CHUNK_FRAMES] for name, tensor in chunks_of(1)[0].items()}

    def put(number: int) -> Chunk:
        source, clip_id = source_of(number), uuid.uuid4().hex
        clip = Clip(clip_id, "video", source, "anna", 0, CHUNK_FRAMES, 25.0)
        ref = store.put_chunk(job.inversion_id, clip_id, 0, tensors)
        return Chunk(clip, 0, ref, np.zeros(1, np.float32), "node")

    with ThreadPoolExecutor(FILLING_THREADS) as pool:
        return list(pool.map(put, range(count)))


def delay(backend: Backend, seconds: float) -> None:
    """Let every request to this backend take `seconds` longer."""

    def delayed(verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            time.sleep(seconds)
            return verb(*arguments)

        return call

    for name in ("get", "put", "put_if_absent", "list", "stat", "delete"):
        setattr(backend, name, delayed(getattr(backend, name)))


def commits(uri: str, count: int, delay_s: float) -> None:
    """Print clips/s of a driver's commits."""
    store = open_store(uri, create=True)
    job = inversion_of(InvertConfig(store=uri), uri)
    chunks = stored_clips(store, job, 2 * count)
    delay(store.backend, delay_s)
    ledgers = Ledger(store, job, {}), Ledger(store, job, {})
    print(f"{count} commits, every request {delay_s * 1000:.0f} ms longer")
    for name, ledger, mine in zip(
        ("at once", "in turn"), ledgers, (chunks[:count], chunks[count:]), strict=True
    ):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        for chunk in mine:
            ledger.take(chunk)
            if name == "in turn":
                ledger.settle()
        ledger.settle()
        assert len(ledger.commits) == count
        rate, cpu_s = count / (time.perf_counter() - began_s), time.process_time() - began_cpu_s
        print(f"{name}: {rate:.1f} clips/s, {cpu_s / count * 1000:.1f} ms of the driver's CPU a clip")


def make_bucket(uri: str) -> None:
    """Create the bucket of the store if it does not exist; does nothing for a folder."""
    if uri.startswith("s3://"):
        client = boto3.client("s3")
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=uri.removeprefix("s3://").partition("/")[0])


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["transfer", "planning", "commits", "catalog"])
    parser.add_argument("--store", required=True, help="s3://bucket/prefix; the bucket is made if missing")
    parser.add_argument("--megabytes", type=int, default=256, help="bytes of one repetition")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=6)
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--delay-ms", type=float, default=50.0, help="of each request of `commits`")
    arguments = parser.parse_args()
    make_bucket(arguments.store)
    if arguments.what == "transfer":
        transfer(arguments.store, arguments.megabytes, arguments.threads, arguments.repetitions)
    elif arguments.what == "commits":
        commits(arguments.store, arguments.clips[0], arguments.delay_ms / 1000)
    elif arguments.what == "catalog":
        catalog(arguments.store, arguments.clips[0])
    else:
        planning(arguments.store, arguments.clips)


if __name__ == "__main__":
    main()
