"""`cluster/local.sh` as docs/cluster.md types it: all services, several workers, nothing left behind."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ray.util import get_node_ip_address

from tests.footage import make_video, make_weights
from tests.free_port import free_port
from tests.jobs.conftest import ROOT
from tests.prometheus_server import scraping, wait_to_see
from tests.s3_servers import rgw_is_missing

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

EXPERIMENT = """
experiment = "local"
store = "s3://svgan-ray/store"
weights = "weights"
[invert]
videos = ["footage"]
[train]
model = "s3://svgan-ray/models/anna"
checkpoints = "s3://svgan-ray/checkpoints"
workers = 2
minutes = 0.3
[train.temporal]
basis_size = 8
window_frames = 12
batch_size = 4
[train.temporal.generator]
width = 16
warm_up_frames = 0
"""
SERVICES = ("HEAD", "DASHBOARD", "MLFLOW", "S3", "POSTGRES")


@dataclass(frozen=True)
class Local:
    """A checkout in which the cluster runs, and the environment of a shell that uses it."""

    checkout: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, system_program: Callable[[str], str]) -> Iterator[Local]:
    if rgw_is_missing():
        pytest.skip(f"needs the system package of an S3 server: {rgw_is_missing()}")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("needs the system package `postgresql`")
    checkout = tmp_path_factory.mktemp("checkout")
    for name in (".venv", "jobs", "cluster"):
        (checkout / name).symlink_to(ROOT / name)
    make_weights(checkout / "weights")
    make_video(checkout / "footage" / "anna.mp4", 40, seed=1)
    (checkout / "experiment.toml").write_text(EXPERIMENT)
    scratch = Path(tempfile.mkdtemp(prefix="sr-"))  # short: Ray puts sockets in it
    scratch.chmod(0o711)  # the user postgres must reach its folder
    (scratch / "home").mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "AWS_", "SVGAN_RAY_"))
    }
    environment |= {
        "HOME": str(scratch / "home"),
        "PYTHONPATH": str(ROOT),
        "RAY_worker_niceness": "0",
        "SVGAN_RAY_LOCAL_DIR": str(scratch / "local"),
        "SVGAN_RAY_HEAD_DIR": str(scratch / "ray"),
        "SVGAN_RAY_HEAD_FLAGS": "--object-store-memory=100000000 "
        f"--dashboard-agent-listen-port={free_port()}",
        "SVGAN_RAY_WORKER_CPUS": "1",
    }
    for service in SERVICES:
        environment[f"SVGAN_RAY_{service}_PORT"] = str(free_port())
    local = Local(checkout, scratch / "local", environment)
    try:
        local.run("cluster/local.sh", "up")
        for line in (scratch / "local/env").read_text().splitlines():
            name, _, value = shlex.split(line)[1].partition("=")
            environment[name] = value
        yield local
    finally:
        subprocess.run(["cluster/local.sh", "down"], cwd=checkout, env=environment, timeout=200)
        shutil.rmtree(scratch, ignore_errors=True)


def test_submitted_jobs_leave_data_on_s3_runs_in_mlflow_and_figures_in_prometheus(
    local: Local, tmp_path: Path, system_program: Callable[[str], str]
) -> None:
    """An inversion, and a training by a worker on each machine."""
    ray, machines = str(ROOT / ".venv/bin/ray"), Path(local.environment["SVGAN_RAY_HEAD_DIR"])
    with scraping(machines, tmp_path, system_program("prometheus")) as prometheus:
        text = local.run(ray, "job", "submit", "--", "python", "jobs/invert.py")
        assert "clips committed" in text
        wait_to_see(prometheus, "count(ray_node_cpu_count)", lambda found: found == {(): 3.0})
        # Ray forgets the figures of processes that have ended.
        frames = "sum(max_over_time(ray_svgan_frames_inverted_total[1h]))"
        wait_to_see(prometheus, frames, lambda found: found == {(): 40.0})
        clips = "sum by (outcome) (max_over_time(ray_svgan_clips_total[1h]))"
        wait_to_see(prometheus, clips, lambda found: found == {("committed",): 1.0})
        seconds = "sum by (stage) (max_over_time(ray_svgan_stage_seconds_total[1h]))"
        wait_to_see(prometheus, seconds, lambda found: found.keys() == {("decode",), ("encode",)})

        text = local.run(ray, "job", "submit", "--", "python", "jobs/train.py")
        assert "jobs/sample.py --model s3://svgan-ray/models/anna" in text
        speed = "max_over_time(ray_svgan_sequences_per_s[1h])"
        wait_to_see(prometheus, speed, lambda found: found.keys() == {("train anna",)})
        spool = "max by (run) (max_over_time(ray_svgan_spool_bytes[1h]))"
        wait_to_see(prometheus, spool, lambda found: {r[0].split()[0] for r in found} == {"invert", "train"})
    client = MlflowClient(local.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("local")
    assert experiment is not None and experiment.artifact_location.startswith("s3://svgan-ray/mlflow")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    metrics = {name: value for run in runs for name, value in run.data.metrics.items()}
    assert metrics["frames_encoded"] == 40 and metrics["train/sequences_per_s"] > 0
    head = f"127.0.0.1:{local.environment['SVGAN_RAY_HEAD_PORT']}"
    nodes = local.run("env", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0", ray, "status", "--address", head)
    assert nodes.count("1 node_") == 3 and "2.0 CPU" in nodes, nodes


def test_nothing_listens_beyond_loopback_nor_tells_its_keys(local: Local) -> None:
    outward = get_node_ip_address()
    assert outward != "127.0.0.1", "this machine has no address that a neighbour could try"
    for name in SERVICES:
        with socket.socket() as probe:
            assert probe.connect_ex((outward, int(local.environment[f"SVGAN_RAY_{name}_PORT"]))), name
    assert stat.S_IMODE((local.folder / "env").stat().st_mode) == 0o600
    password = (local.folder / "postgres/pgpass").read_text().strip().rpartition(":")[2]
    assert password not in processes()


def test_nothing_is_left_of_it(local: Local) -> None:
    local.run("cluster/local.sh", "down")
    left = processes()
    assert str(local.folder.parent) not in left, left


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, text=True, check=True).stdout
