"""A cluster that begins with a head alone, as on AWS and Kubernetes: its machines come when work waits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.items import Chunk, Item
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.store import open_store
from tests.footage import make_video, make_weights
from tests.orchestration.faulty_workers import connected, held, nodes_at_work, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The head, with the test's folder as that of its workers' journal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, object_store_memory=100_000_000)
        with connected(cluster.address, tmp_path):
            yield cluster
    finally:
        cluster.shutdown()


def config_for(folder: Path, videos: int) -> InvertConfig:
    names = [make_video(folder / "footage" / f"{seed}.mp4", 40, seed) for seed in range(videos)]
    weights = make_weights(folder / "weights")
    return InvertConfig(tuple(map(str, names)), "store", str(weights), actors="1", gpus_per_actor=1.0)


def add_gpu(cluster: Cluster) -> Any:
    return cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=100_000_000)


def gpu_is_taken() -> bool:
    return ray.cluster_resources().get("GPU", 0) == 1 and ray.available_resources().get("GPU", 0) == 0


def test_a_job_waits_for_the_first_machine_and_uses_its_gpu(
    head: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(1) as pool:  # Ray's nodes are added by main threads alone
        inverting = pool.submit(invert, config_for(tmp_path, videos=1))
        wait_for(lambda: "waiting for its first" in capsys.readouterr().err, "the job to wait")
        with held(tmp_path, "encode"):
            node = add_gpu(head)
            wait_for((tmp_path / "holding-encode").exists, "an encoder")
            wait_for(gpu_is_taken, "the GPU to be its own")
        report = inverting.result()
    [commit] = open_store("store").commits(report.inversion_id)
    assert commit.node.endswith(node.node_id[:8])


def test_a_job_whose_only_gpu_went_waits_for_another(
    head: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As spot machines do: the rest is not encoded on CPUs, whose last digits would be others."""
    taken, take = list[Item](), Ledger.take

    def noted(ledger: Ledger, item: Item) -> None:
        take(ledger, item)
        taken.append(item)

    monkeypatch.setattr(Ledger, "take", noted)
    first = add_gpu(head)
    with ThreadPoolExecutor(1) as pool:
        with held(tmp_path, "encode", passing=2):
            inverting = pool.submit(invert, config_for(tmp_path, videos=2))
            wait_for((tmp_path / "holding-encode").exists, "the second video")
            wait_for(lambda: any(isinstance(item, Chunk) for item in taken), "the first one's chunk")
            head.remove_node(first, allow_graceful=False)
            head.add_node(num_cpus=1, object_store_memory=100_000_000)  # where it could go on without
            second = add_gpu(head)
            wait_for(lambda: len(nodes_at_work(tmp_path)) == 2, "the second video on another machine")
            wait_for(gpu_is_taken, "the other GPU to be taken")
        report = inverting.result()
    nodes = {commit.node.rpartition("/")[2] for commit in open_store("store").commits(report.inversion_id)}
    assert nodes == {first.node_id[:8], second.node_id[:8]}
    assert (report.clips_committed, report.failures) == (2, ())
