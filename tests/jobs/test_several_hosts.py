"""A cluster of several machines with their own addresses, one of which loses its link while it works."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from svgan_ray.config import InvertConfig, TrainConfig
from svgan_ray.orchestration.invert.items import BLOCK_FRAMES
from svgan_ray.orchestration.runtime.command_line import parse
from svgan_ray.orchestration.runtime.folders import model_folder
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.plan import TrainingPlan, plan_training
from svgan_ray.runs.mlflow_sink import KIND_TAG
from svgan_ray.runs.server import serve
from svgan_ray.store import CommitRecord, LatentStore, open_store
from svgan_ray.temporal.model import MotionModel, load_model, model_of
from svgan_ray.temporal.training import new_state, train_step
from svgan_ray.temporal.workers import Workers
from tests.footage import make_video, make_weights
from tests.inverted import invert_here
from tests.machines import ROOT, TOOLS, Machine, Network, namespaces_are_refused, network
from tests.meeting import Meeting, together
from tests.s3_servers import make_bucket, rgw_is_missing, rgw_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

BUCKET = "experiments"
RAY = str(ROOT / ".venv/bin/ray")
STORE = f"s3://{BUCKET}/store"
EXPERIMENT = "several-machines"
VIDEOS, FRAMES = 10, 200
STEPS, CHECKPOINT_EVERY_STEPS = 800, 50
WORK = ["--store", STORE, "--weights", f"s3://{BUCKET}/weights", "--experiment", EXPERIMENT]
TEMPORAL = ["--subject", "0", "--temporal.basis-size", "8", "--temporal.window-frames", "12"]
TEMPORAL += ["--temporal.batch-size", "4"]
PATIENCE_S = 500
SETTINGS = {
    "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
    "HOME": "/tmp",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "3" * 64,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # otherwise other processes of this machine run first
    # A machine that cannot be reached counts as dead after 15 seconds instead of Ray's minute, and so do its
    # processes, for whose answer Ray would wait for seven minutes.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}


@dataclass(frozen=True)
class Program:
    """A program that was started on a machine, and its output so far."""

    process: subprocess.Popen[bytes]
    log: Path

    def await_that(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds while the program runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S} s:\n{self.log.read_text()}"
            time.sleep(0.1)

    def await_line(self, line: str) -> None:
        self.await_that(lambda: line in self.log.read_text(), line)

    def result(self) -> str:
        """Wait until the program ends, which must be without an error."""
        assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()
        return self.log.read_text()


@dataclass
class Cluster:
    """A head, its workers by name, and the machine of a user, who submits jobs."""

    net: Network
    user: Machine
    head: Machine
    logs: Path
    workers: dict[str, Machine] = field(default_factory=dict)

    def run(self, machine: Machine, name: str, *command: str) -> Program:
        """Start a program on one of the machines."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            return Program(machine.start(*command, environment=ours | SETTINGS, log=output), log)

    def start_ray(self, machine: Machine, *flags: str) -> Program:
        """Start Ray on a machine that was just switched on, as the head node or as a worker of it."""
        here = [f"--node-ip-address={machine.address}", "--object-store-memory=100000000"]
        return self.run(machine, machine.name, RAY, "start", "--block", *here, *flags)

    def add_worker(self) -> Program:
        """Switch on one more machine, with a core for an encoder or a worker of a training."""
        machine = self.net.plug_in(f"worker-{len(self.workers) + 1}")
        self.workers[machine.name] = machine
        return self.start_ray(machine, f"--address={self.head.address}:6379", "--num-cpus=1")

    def lose(self, name: str) -> None:
        """Cut a worker's link, and switch another one on, as a cloud does."""
        self.net.cut(self.workers[name])
        self.add_worker()

    def submit(self, job: str, *flags: str) -> Program:
        """`ray job submit`, as docs/cluster.md types it."""
        where = ["--address", f"http://{self.head.address}:8265", "--working-dir", str(ROOT)]
        entrypoint = ["python", f"jobs/{job}.py", *WORK, *flags]
        return self.run(self.user, job, RAY, "job", "submit", *where, "--", *entrypoint)


@pytest.fixture(scope="module")
def cluster(
    system_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The S3 server and MLflow run on the user's machine, whose network this process joins."""
    for tool in TOOLS:
        system_program(tool)
    if rgw_is_missing():
        pytest.skip(f"needs the system package of an S3 server: {rgw_is_missing()}")
    if refusal := namespaces_are_refused():
        pytest.skip(f"needs the right to make namespaces (CAP_SYS_ADMIN, CAP_NET_ADMIN): {refusal}")
    folder = tmp_path_factory.mktemp("cluster")
    with network() as net, ExitStack() as stack:
        cluster = Cluster(net, net.plug_in("user"), net.plug_in("head"), folder)
        stack.enter_context(cluster.user.network())
        stack.enter_context(services(cluster.user.address, folder))
        address = cluster.head.address
        head = cluster.start_ray(cluster.head, "--head", "--num-cpus=0", f"--dashboard-host={address}")
        head.await_line("Ray runtime started")
        workers = [cluster.add_worker() for _ in range(2)]
        upload(footage_in(folder / "footage"))
        upload(make_weights(folder / "weights"))
        for worker in workers:
            worker.await_line("Ray runtime started")
        yield cluster


@contextmanager
def services(address: str, folder: Path) -> Iterator[None]:
    """An S3 server with a bucket, and MLflow; this process knows where they are."""
    with rgw_server(address) as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        make_bucket(s3, BUCKET)
        database, artifacts = f"sqlite:///{folder}/mlflow.db", f"s3://{BUCKET}/mlflow"
        with serve(database, artifacts, log=folder / "mlflow.log", host=address) as uri:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use as many threads as workers do, because another number gives other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_inversion_loses_and_doubles_nothing(cluster: Cluster, tmp_path: Path) -> None:
    store = open_store(STORE, create=True)
    job = cluster.submit("invert", "--videos", f"s3://{BUCKET}/footage", "--actors", "2")
    job.await_that(lambda: bool(commits(store)), "a commit")
    lost = min(machines_of(commits(store)[0]))
    cluster.lose(lost)
    assert len(commits(store)) < VIDEOS, "the link was cut only after the work was done"

    clean = open_store(tmp_path / "store", create=True)
    weights = str(make_weights(tmp_path / "weights"))
    inversion_id = invert_here(InvertConfig((str(footage_in(tmp_path / "footage")),), clean.uri, weights))
    text = job.result()
    assert store.inversion_ids() == [inversion_id]
    done, expected = work_of(store, inversion_id), work_of(clean, inversion_id)
    assert done == expected and sum(frames for frames, _ in done.values()) == VIDEOS * FRAMES, text
    assert not store.failures(inversion_id)
    assert keys(f"store/chunks/{inversion_id}/") == VIDEOS * -(-FRAMES // BLOCK_FRAMES)
    assert {lost} < set.union(*map(machines_of, commits(store)))

    [run] = runs("invert")
    assert run.info.status == "FINISHED"
    figures = run.data.metrics
    assert figures["clips_committed"] == VIDEOS
    assert figures["frames_encoded"] + figures["frames_reused"] == VIDEOS * FRAMES


def test_training_with_two_workers_changes_no_bit(cluster: Cluster) -> None:
    flags = [*TEMPORAL, "--temporal.steps", str(STEPS), "--workers", "2", "--sample-seconds", "1"]
    flags += ["--checkpoint-every-steps", str(CHECKPOINT_EVERY_STEPS)]
    flags += ["--checkpoints", f"s3://{BUCKET}/checkpoints", "--model", f"s3://{BUCKET}/models/0"]
    job = cluster.submit("train", *flags)
    job.await_that(lambda: keys("checkpoints/", "/checkpoint.json") >= 2, "checkpoints")
    cluster.lose(max(cluster.workers))
    assert not keys("checkpoints/", "/finished.json"), "the link was cut only after the work was done"

    config, _, _ = parse(TrainConfig, [*WORK, *flags])
    expected = undisturbed(plan_training(config, put=False)).generator.state_dict()
    text = job.result()
    with model_folder(config.model) as folder:
        model = load_model(folder)
    assert model.card["steps"] == STEPS
    for name, value in model.generator.state_dict().items():
        assert torch.equal(value, expected[name]), f"{name}\n{text}"

    [run] = runs("train")
    assert run.info.status == "FINISHED"
    points = MlflowClient().get_metric_history(run.info.run_id, "train/critic")
    steps = sorted(point.step for point in points)
    assert steps == sorted(set(steps)) and steps[-1] == STEPS


def test_a_study_runs_on_all_machines(cluster: Cluster) -> None:
    flags = [*TEMPORAL, "--temporal.steps", "40", "--trials", "2", "--evaluations", "1"]
    flags += ["--study-folder", f"s3://{BUCKET}/studies", "--model", f"s3://{BUCKET}/models/tuned"]
    flags += ["--search-storage", "sqlite:////tmp/optuna.db", "--out", "/tmp/preset.json"]
    text = cluster.submit("tune", *flags).result()
    assert (cluster.head.tmp / "preset.json").is_file(), text
    [study], trials = runs("tune"), runs("trial")
    assert study.info.status == "FINISHED" and len(trials) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    with model_folder(f"s3://{BUCKET}/models/tuned") as folder:
        assert load_model(folder).card["subject"] == "0"


def footage_in(folder: Path) -> Path:
    """Make the same videos wherever this is called."""
    for number in range(VIDEOS):
        make_video(folder / f"{number}.mp4", FRAMES, seed=number)
    return folder


def upload(folder: Path) -> None:
    client = boto3.client("s3")
    for file in filter(Path.is_file, folder.rglob("*")):
        client.upload_file(str(file), BUCKET, str(file.relative_to(folder.parent)))
    client.close()


def keys(prefix: str, ending: str = "") -> int:
    """The number of objects of the bucket with this prefix."""
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    found = [item["Key"] for page in pages for item in page.get("Contents", [])]
    client.close()
    return sum(key.endswith(ending) for key in found)


def commits(store: LatentStore) -> list[CommitRecord]:
    return [record for inversion_id in store.inversion_ids() for record in store.commits(inversion_id)]


def machines_of(record: CommitRecord) -> set[str]:
    """The machines that encoded a clip, by name."""
    return {node.partition("/")[0] for node in record.node.split()}


def work_of(store: LatentStore, inversion_id: str) -> dict[str, tuple[int, str]]:
    """Frames and hash of the latents of each committed clip."""
    return {record.clip_id: (record.frames, record.work_sha256) for record in store.commits(inversion_id)}


def undisturbed(plan: TrainingPlan) -> MotionModel:
    """The result of two workers in this process, whose link is never cut."""
    data = training_set(plan.store, plan.job.snapshot, plan.job.config)
    features, index = data.features, data.index(plan.job.config.window_frames)
    meeting = Meeting(2)
    states = [
        new_state(plan.job.config, data.basis, workers=Workers(rank, 2, meeting.all_reduce_of(rank)))
        for rank in range(2)
    ]

    def work(rank: int) -> None:
        for _ in range(STEPS):
            train_step(states[rank], features, index)

    together(meeting, work)
    return model_of(states[0], data.basis.mean, plan.job.generator_sha256)


def runs(kind: str) -> list[Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`{KIND_TAG}` = '{kind}'"))
