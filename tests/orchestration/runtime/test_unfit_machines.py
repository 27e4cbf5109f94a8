"""A cluster with machines that cannot do a job: the job says so before it begins, and so does doctor."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from svgan_ray.config import DoctorConfig, InvertConfig
from svgan_ray.errors import ClusterError
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.runtime.cluster_checks import cluster_checks
from svgan_ray.orchestration.runtime.start import started
from svgan_ray.store import open_store
from svgan_ray.store.keys import model_manifest
from svgan_ray.store.weights import put_weights
from tests.footage import make_video
from tests.full_disk import small_disk

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

STORE = "s3://motion/unfit"
NO_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    "AWS_CONFIG_FILE": "/nowhere",
}


@pytest.fixture(scope="module")
def eight_mb() -> Iterator[Path]:
    """A file system of 8 MB, as a machine whose disk is full has it."""
    with tempfile.TemporaryDirectory(prefix="small-") as folder, small_disk(Path(folder), "8m"):
        yield Path(folder)


@pytest.fixture(scope="module")
def machines(s3: dict[str, str], eight_mb: Path) -> Iterator[dict[str, str]]:
    """A head that is well, a machine without a way to the bucket, one without disk: ids by what they lack."""
    cluster = Cluster()
    try:
        nodes = [
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000, env_vars=environment)
            for environment in ({}, NO_CREDENTIALS, {"TMPDIR": str(eight_mb)})
        ]
        ray.init(address=cluster.address, logging_level="WARNING")
        ids = [node.node_id[:8] for node in nodes]
        yield dict(zip(("nothing", "bucket", "disk"), ids, strict=True))
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_job_names_every_machine_that_is_not_fit_and_so_does_doctor(
    machines: dict[str, str], weights: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(work_folder / "footage" / "anna.mp4", 40)
    config = InvertConfig((str(work_folder / "footage"),), STORE, str(weights))
    with pytest.raises(ClusterError) as raised:
        invert(config)
    lines = str(raised.value).splitlines()
    [bucket] = [line for line in lines if machines["bucket"] in line]
    assert "no complete credentials found; set AWS_ACCESS_KEY_ID" in bucket
    assert "docs/cluster.md" in bucket
    [disk] = [line for line in lines if machines["disk"] in line]
    assert "GB free in" in disk and "set TMPDIR" in disk
    assert len(lines) == 2 and open_store(STORE).inversion_ids() == []

    checks = cluster_checks(DoctorConfig(STORE, str(weights), 0.1))
    failed = {(check.machine.rpartition("/")[2], check.name) for check in checks if check.state == "failed"}
    assert failed == {
        (machines["bucket"], "store"),
        (machines["bucket"], "fetching"),
        (machines["disk"], "disk"),
    }


def test_weights_that_the_store_lost_are_named_before_the_work(
    machines: dict[str, str], weights: Path, work_folder: Path
) -> None:
    store = open_store("s3://motion/lost", create=True)
    sha256 = put_weights(store, weights / "generator")
    store.backend.delete(model_manifest(f"weights/{sha256}"))
    complaint = rf"{machines['nothing']}: .*holds no weights {sha256[:12]}"
    with pytest.raises(ClusterError, match=complaint), started(store.uri, [sha256], "any"):
        pass


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_A")]:
        monkeypatch.delenv(name)
