"""A cluster that begins with a head alone, as on AWS and Kubernetes: its machines come when work waits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert import invert
from svgan_ray.store import open_store
from tests.footage import make_video, make_weights
from tests.orchestration.faulty_workers import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def head() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, object_store_memory=100_000_000)
        ray.init(address=cluster.address, logging_level="WARNING")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_job_waits_for_the_first_machine_and_uses_its_gpu(
    head: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    video, weights = make_video(tmp_path / "footage" / "anna.mp4", 40), make_weights(tmp_path / "weights")
    config = InvertConfig(videos=(str(video),), store="store", weights=str(weights), gpus_per_actor=1.0)

    with ThreadPoolExecutor(1) as pool:  # Ray's nodes are added by main threads alone
        inverting = pool.submit(invert, config)
        wait_for(lambda: "waiting for its first" in capsys.readouterr().err, "the job to wait")
        node = head.add_node(num_cpus=1, num_gpus=1, object_store_memory=100_000_000)
        wait_for(lambda: ray.available_resources().get("GPU", 0) == 0, "an encoder with the GPU")
        report = inverting.result()
    [commit] = open_store("store").commits(report.inversion_id)
    assert commit.node.endswith(node.node_id[:8])
