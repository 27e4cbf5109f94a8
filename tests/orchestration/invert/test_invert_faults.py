"""Inversion under real faults. After each, the committed frames are those of a clean run, bit for bit.

The clean run is one plain process; the runs with faults divide each video among actors on two nodes, and
refine latents across the cuts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from svgan_ray.config import InvertConfig
from svgan_ray.errors import StoreError
from svgan_ray.orchestration.invert.faces import file_sha256
from svgan_ray.orchestration.invert.items import Chunk, Item
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.report import InvertReport
from svgan_ray.orchestration.invert.stream import stream
from svgan_ray.store import LatentStore, open_store
from svgan_ray.video.landmarks import sidecar_path
from tests.footage import make_video
from tests.full_disk import small_disk
from tests.inverted import invert_here
from tests.orchestration.faulty_workers import (
    POISON,
    Encoded,
    all_encoders_first,
    connected,
    held,
    is_alive,
    journal,
    nodes_at_work,
    occupant_of_gpu,
    wait_for,
)
from tests.s3_servers import FaultProxy, fault_proxy, moto_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LONG, SHORT = 400, 40  # frames: four blocks, and one
BLOCKS = 6  # of one long and two short videos
DRIVER = "import sys; from tests.orchestration.faulty_workers import main; main(*sys.argv[1:])"
Frames = dict[tuple[str, int], str]  # hash of everything that is stored of a frame, by video id and frame


@dataclasses.dataclass
class Bench:
    """A cluster of two nodes with room for an encoder each, its journal, footage and a clean run's frames."""

    cluster: Cluster
    second_node: object
    proxy: FaultProxy
    folder: Path
    footage: Path
    weights: Path
    clean: Frames = dataclasses.field(default_factory=dict)

    def add_node(self) -> object:
        return add_node(self.cluster)

    def config(self, videos: Path, store: str | Path, actors: str = "2") -> InvertConfig:
        return InvertConfig(
            videos=(str(videos),),
            store=str(store),
            weights=str(self.weights),
            batch_frames=8,
            error_every_frames=10,
            refine_steps=1,
            actors=actors,
            gpus_per_actor=1.0,
            experiment="faults",
            max_failure_fraction=1.0,
        )

    def held(self, stage: str, passing: int = 0) -> AbstractContextManager[None]:
        return held(self.folder, stage, passing)

    def is_holding(self, stage: str) -> bool:
        return (self.folder / f"holding-{stage}").exists()

    def clean_of(self, videos: Path) -> Frames:
        """The frames that a clean run commits for these videos."""
        ids = {file_sha256(path) for path in videos.glob("*.mp4")}
        return {key: value for key, value in self.clean.items() if key[0] in ids}


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with (
        moto_server("latents") as environment,
        pytest.MonkeyPatch.context() as patch,
        fault_proxy(environment["AWS_ENDPOINT_URL"]) as proxy,
    ):
        for name, value in {**environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)  # before Ray starts: its workers inherit it
        yield proxy


@pytest.fixture(scope="module")
def bench(
    proxy: FaultProxy, weights: Path, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    make_video(folder / "footage" / "long.mp4", LONG, seed=1)
    for seed, name in enumerate(("anna", "ben"), start=2):
        make_video(folder / "footage" / f"{name}.mp4", SHORT, seed)
    cluster = Cluster()
    try:
        nodes = [add_node(cluster) for _ in range(2)]
        with connected(cluster.address, folder), all_encoders_first():
            bench = Bench(cluster, nodes[1], proxy, folder, folder / "footage", weights)
            bench.clean = clean_run(bench)
            yield bench
    finally:
        cluster.shutdown()


def add_node(cluster: Cluster) -> object:
    """Its GPU exists in name only; one encoder takes it."""
    return cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=100_000_000)


def clean_run(bench: Bench) -> Frames:
    """One process, with as many threads as an encoder actor has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    inversion_id = invert_here(bench.config(bench.footage, bench.folder / "clean"))
    torch.set_num_threads(threads)
    return committed_frames(bench.folder / "clean", inversion_id)


@pytest.fixture(autouse=True)
def fresh(bench: Bench, work_folder: Path) -> None:
    """A working directory and a journal of the test's own."""
    (bench.folder / "encoded").unlink(missing_ok=True)


def committed_frames(store: str | Path, inversion_id: str) -> Frames:
    latents = open_store(store)
    frames: Frames = {}
    for commit in latents.commits(inversion_id):
        clip = latents.read_clip(inversion_id, commit.clip_id)
        kept = (clip.w_plus, clip.quad, clip.time_s, clip.error, clip.interpolated)
        for i, of_frame in enumerate(zip(*kept, strict=True)):
            data = b"".join(tensor.numpy().tobytes() for tensor in of_frame)
            frames[commit.video_id, commit.first_frame + i] = hashlib.sha256(data).hexdigest()
    return frames


def run_through(config: InvertConfig, fault: Callable[[], None]) -> InvertReport:
    """Invert, while another thread injects the fault."""
    with ThreadPoolExecutor(1) as pool:
        injected = pool.submit(fault)
        report = invert(config)
        injected.result()
    return report


def assert_as_clean(bench: Bench, config: InvertConfig, report: InvertReport) -> None:
    clean = bench.clean_of(Path(config.videos[0]))
    assert committed_frames(config.store, report.inversion_id) == clean
    assert report.failures == () and report.notes == ()


def assert_told_once(bench: Bench, config: InvertConfig, report: InvertReport) -> None:
    """Check the report of a run that did everything: repeated work is counted once."""
    clean = bench.clean_of(Path(config.videos[0]))
    assert report.frames_encoded + report.frames_reused == len(clean)
    assert (report.clips_committed, report.clips_skipped) == (len({video for video, _ in clean}), 0)


def assert_nothing_committed_was_encoded(store: LatentStore, encoded: list[Encoded]) -> None:
    for path in (Path(store.uri) / "commits").rglob("*.json"):
        begun_s = [entry.began_s for entry in encoded if entry.clip_id == path.stem]
        assert max(begun_s, default=0) <= path.stat().st_mtime


def test_an_encoder_that_is_killed(bench: Bench, tmp_path: Path) -> None:
    config = bench.config(bench.footage, tmp_path / "store")

    def kill_an_encoder() -> None:
        with bench.held("encode"):
            wait_for(lambda: bench.is_holding("encode"), "an encoder")
            os.kill(journal(bench.folder)[0].pid, signal.SIGKILL)

    report = run_through(config, kill_an_encoder)
    assert_as_clean(bench, config, report)
    assert_told_once(bench, config, report)
    begun = begun_blocks(bench)
    assert begun.count(begun[0]) == 2, "its blocks were encoded again"
    assert_nothing_committed_was_encoded(open_store(config.store), journal(bench.folder))


def test_a_block_that_kills_its_process_every_time(bench: Bench, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(bench.footage, videos)
    make_video(videos / f"{POISON}.mp4", SHORT, seed=5)
    config = bench.config(videos, tmp_path / "store")
    report = invert(config)
    [failure] = report.failures
    assert (Path(failure.uri).stem, failure.stage, failure.reason) == (POISON, "encode", "worker_died")
    deaths_s = [entry.began_s for entry in journal(bench.folder) if entry.subject == POISON]
    assert len(deaths_s) == 3, "it was encoded a second time, and once more alone"
    [record] = (tmp_path / "store" / "failures").rglob("*.json")
    assert record.stat().st_mtime - deaths_s[2] < 60, "the last death makes the failure record"
    assert committed_frames(config.store, report.inversion_id) == bench.clean
    assert report.exit_code == 0
    assert dataclasses.replace(report, max_failure_fraction=0.2).exit_code == 1


def test_a_driver_that_is_killed(bench: Bench, tmp_path: Path) -> None:
    videos = copied(bench.footage / "long.mp4", tmp_path / "videos").parent
    config = bench.config(videos, tmp_path / "store")
    store = open_store(config.store, create=True)
    arguments = [bench.cluster.address, str(bench.folder), json.dumps(dataclasses.asdict(config))]
    with bench.held("encode", passing=3):
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], cwd=tmp_path)
        wait_for(lambda: bench.is_holding("encode") and chunks_of(store), "an encoder and a chunk")
        driver.kill()
        driver.wait()
        wait_for(lambda: not any(map(is_alive, pids(bench))), "its workers to end")
    stored = chunks_of(store)
    begun = len(journal(bench.folder))

    report = invert(config)
    assert_as_clean(bench, config, report)
    assert_told_once(bench, config, report)
    again = {number for _, number in begun_blocks(bench)[begun:]}
    assert report.frames_reused > 0 and again == set(range(4)) - {number for _, number in stored}


def pids(bench: Bench) -> set[int]:
    return {entry.pid for entry in journal(bench.folder)}


def begun_blocks(bench: Bench) -> list[tuple[str, int]]:
    """Clip id and number of the blocks that workers began to encode."""
    return [(entry.clip_id, entry.number) for entry in journal(bench.folder)]


def chunks_of(store: LatentStore) -> set[tuple[str, int]]:
    """Clip id and number of the chunks in the store."""
    found = (Path(store.uri) / "chunks").rglob("*.safetensors")
    return {(path.parent.name, int(path.name.partition("-")[0])) for path in found}


def test_s3_that_refuses_for_good_and_then_dawdles_hangs_up_and_cuts(bench: Bench) -> None:
    config = bench.config(bench.footage, "s3://latents/store")

    def let_credentials_expire() -> None:
        with bench.held("encode"):
            wait_for(lambda: bench.is_holding("encode"), "an encoder")
            bench.proxy.refuse(400, "ExpiredToken", times=1000)

    with pytest.raises(StoreError, match="the credentials have expired; renew them and run the same command"):
        run_through(config, let_credentials_expire)
    bench.proxy.clear()

    faults = [("slow_down", ""), ("reset", ""), ("cut_body", "GET"), ("slow", ""), ("lose_answer", "PUT")]

    def break_things() -> None:
        for _ in range(4):
            for fault, method in faults:
                bench.proxy.break_next(fault, method=method)

    before = bench.proxy.broken
    report = run_through(config, break_things)
    assert bench.proxy.broken - before == 4 * len(faults)
    assert_as_clean(bench, config, report)


def test_a_full_disk(bench: Bench, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    room_kb = 200 + sum(file.stat().st_size for file in bench.weights.rglob("*.safetensors")) // 1024
    with small_disk(disk, f"{room_kb}k"):
        config = bench.config(bench.footage, disk / "store")
        with pytest.raises(StoreError, match=r"the disk is full; free space and run the same command again"):
            invert(config)
        stored = chunks_of(open_store(config.store))
        begun = len(journal(bench.folder))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        report = invert(config)
        assert_as_clean(bench, config, report)
        assert not stored.intersection(begun_blocks(bench)[begun:])


def test_a_video_that_changes_while_it_is_read(bench: Bench, tmp_path: Path) -> None:
    video, other = copied(bench.footage / "anna.mp4", tmp_path / "videos"), bench.footage / "ben.mp4"
    config = bench.config(video.parent, tmp_path / "store", actors="1")  # one block is all that is read

    def replace() -> None:
        with bench.held("read"):
            wait_for(lambda: bench.is_holding("read"), "the video to be read")
            for path, new in ((video, other), (sidecar_path(video), sidecar_path(other))):
                os.replace(shutil.copy(new, tmp_path / "copy"), path)

    report = run_through(config, replace)
    assert [failure.reason for failure in report.failures] == ["changed"]
    assert committed_frames(config.store, report.inversion_id) == {}, "of neither video"

    report = invert(config)
    assert report.clips_committed == 1
    assert_as_clean(bench, config, report)


def copied(video: Path, folder: Path) -> Path:
    """A video and its landmarks, alone in a folder."""
    folder.mkdir()
    shutil.copy(sidecar_path(video), folder)
    return Path(shutil.copy(video, folder))


def test_two_inversions_of_the_same_videos_at_once(bench: Bench, tmp_path: Path) -> None:
    config = bench.config(bench.footage, tmp_path / "store", actors="1")
    open_store(config.store, create=True)
    arguments = [bench.cluster.address, str(bench.folder), json.dumps(dataclasses.asdict(config))]
    (tmp_path / "other").mkdir()
    other = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], cwd=tmp_path / "other")

    def let_both_begin() -> None:
        with bench.held("encode"):
            wait_for(lambda: len(pids(bench)) == 2, "an encoder of each")

    report = run_through(config, let_both_begin)
    assert other.wait(timeout=120) == 0
    assert_as_clean(bench, config, report)
    assert max(Counter(begun_blocks(bench)).values()) <= 2


def test_a_node_that_goes_with_rows_that_were_ready(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = bench.config(bench.footage, tmp_path / "store", actors="1")
    store = open_store(config.store, create=True)
    first_gpu = occupant_of_gpu()
    take, planned = Ledger.take, []

    def take_late(ledger: Ledger, item: Item) -> None:
        if isinstance(item, Chunk) and bench.second_node in bench.cluster.worker_nodes:
            wait_for(lambda: len(chunks_of(store)) == BLOCKS, "all chunks")
            bench.cluster.remove_node(bench.second_node, allow_graceful=False)
            ray.kill(first_gpu)
        take(ledger, item)

    def planned_stream(*arguments: Any) -> Any:
        planned.append(arguments)
        return stream(*arguments)

    monkeypatch.setattr(Ledger, "take", take_late)
    monkeypatch.setattr("svgan_ray.orchestration.invert.job.stream", planned_stream)
    report = invert(config)
    bench.second_node = bench.add_node()
    assert len(planned) == 2, "rows were lost"
    assert_as_clean(bench, config, report)
    assert_told_once(bench, config, report)
    assert len(begun_blocks(bench)) == BLOCKS, "chunks in the store were not encoded again"


def test_a_node_that_is_killed_while_two_work_on_one_video(bench: Bench, tmp_path: Path) -> None:
    """This test comes last, because the cluster is smaller afterwards."""
    videos = copied(bench.footage / "long.mp4", tmp_path / "videos").parent
    config = bench.config(videos, tmp_path / "store")

    def kill_a_node() -> None:
        with bench.held("encode"):
            wait_for(lambda: len(nodes_at_work(bench.folder)) == 2, "both nodes")
            bench.cluster.remove_node(bench.second_node, allow_graceful=False)

    report = run_through(config, kill_a_node)
    assert_as_clean(bench, config, report)
    assert_told_once(bench, config, report)
    assert_nothing_committed_was_encoded(open_store(config.store), journal(bench.folder))
