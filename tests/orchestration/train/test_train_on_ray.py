"""Training with real workers: what it leaves behind, and that kills change nothing, on a disk and on S3."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from ray.train import Checkpoint, WorkerGroupError
from ray.util.state import list_actors
from safetensors.torch import load_file

from svgan_ray.config import DataChoice, TrainConfig
from svgan_ray.errors import DivergenceError, SvganRayError
from svgan_ray.orchestration.demo.memory import _tree
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.train import data as data_module
from svgan_ray.orchestration.train.checkpoints import BEST
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.job import run as train
from svgan_ray.orchestration.train.plan import plan_training
from svgan_ray.orchestration.train.validation import Validator
from svgan_ray.store import open_store
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.model import load_model
from svgan_ray.temporal.recipes import OptimiserOptions
from tests.full_disk import small_disk
from tests.motion import make_store, tiny
from tests.orchestration.faulty_workers import is_alive, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800), pytest.mark.usefixtures("ray_of_two_cpus")]

# A kill after the first checkpoint, which is put beside the steps, is long before the end.
STEPS, CHECKPOINT = 1500, 100
REPOSITORY = Path(__file__).parents[3]


def config_for(weights: Path, **changes: Any) -> TrainConfig:
    values = {
        "weights": str(weights),
        "temporal": tiny(STEPS),
        "checkpoint_every_steps": CHECKPOINT,
        "sample_every_steps": STEPS,
        "sample_seconds": 1.0,
    }
    return TrainConfig(**{**values, **changes})


def run_of(uri: str, training_id: str) -> tuple[MlflowClient, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("svgan-ray")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.training = '{training_id}'")
    return client, run


def artifacts(client: MlflowClient, run: Run, folder: str) -> list[str]:
    return sorted(Path(file.path).name for file in client.list_artifacts(run.info.run_id, folder))


def wait_for_checkpoint(folder: Path, step: int) -> None:
    wait_for(
        lambda: list(folder.glob(f"*/step-{step:08d}/checkpoint.json")), f"the checkpoint of step {step}"
    )


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory, weights: Path, mlflow_uri: str, ray_of_two_cpus: None
) -> Iterator[Path]:
    """A folder in which a training ran undisturbed; the others are held against it."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
        make_store("store", weights, clips=2, frames=1500)
        before = local_checkpoints()
        report = train(config_for(weights))
        assert not report.was_finished and report.finished.steps == STEPS
        assert local_checkpoints() <= before, "each is removed after its upload"
        yield folder


def local_checkpoints() -> set[Path]:
    """The folders in which workers of this machine prepare checkpoints for their upload."""
    return set(Path(tempfile.gettempdir()).glob("checkpoint-*"))


def test_a_run_shows_curves_samples_and_the_model(straight: Path, weights: Path, mlflow_uri: str) -> None:
    plan = plan_training(config_for(weights))
    client, run = run_of(mlflow_uri, plan.job.id)

    assert run.info.status == "FINISHED"
    assert run.data.params["temporal.steps"] == str(STEPS)
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/critic")]
    assert steps == [*range(1, STEPS, 20), STEPS]
    assert {"motion_distance", "frechet_motion"} <= set(run.data.metrics) and "diversity" in run.data.metrics
    assert artifacts(client, run, "samples") == [f"step-{STEPS:08d}.mp4"]
    assert artifacts(client, run, "model") == ["README.md", "model.json", "model.safetensors"]
    pictures = {tuple(name.split("+")[:3]) for name in artifacts(client, run, "images")}
    names = ("samples", "motion trajectories", "power spectra", "drift within a minute", "basis spectrum")
    assert pictures == {(name, "step", str(step)) for name in names for step in (0, STEPS)}
    assert {"gallery.html", "settings.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    (data,) = run.inputs.dataset_inputs
    assert plan.job.snapshot.digest.startswith(data.dataset.digest)


def test_the_model_is_in_its_folder_and_in_the_store(straight: Path, weights: Path) -> None:
    plan = plan_training(config_for(weights))

    model = load_model("models/demo")

    assert (model.card["subject"], model.card["steps"]) == ("subject-1", STEPS)
    assert model.card["snapshot_digest"] == plan.job.snapshot.digest
    assert open_store("store").model_names("subject-1") == [plan.model_name(STEPS)]
    kept = [path.name for path in Path(plan.folder).glob("step-*")]
    assert sorted(kept) == [
        f"step-{step:08d}" for step in (STEPS - 2 * CHECKPOINT, STEPS - CHECKPOINT, STEPS)
    ]
    assert load_checkpoint(Path(plan.folder) / BEST).step == STEPS  # the only one that was validated


def test_the_same_training_again_is_finished_and_a_longer_one_goes_on(
    straight: Path, weights: Path, tmp_path: Path
) -> None:
    again = train(config_for(weights, model=str(tmp_path / "again")))
    assert again.was_finished and again.finished.figures
    assert equal_models(tmp_path / "again", straight / "models/demo")

    longer = train(config_for(weights, temporal=tiny(STEPS + 30), model=str(tmp_path / "longer")))

    assert not longer.was_finished and longer.finished.steps == STEPS + 30
    assert longer.finished.elapsed_s > again.finished.elapsed_s


def equal_models(a: Path, b: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def kill_worker_after_checkpoint(folder: Path, step: int, killed: list[int]) -> None:
    wait_for_checkpoint(folder, step)
    this_cluster = ray.get_runtime_context().gcs_address  # another head may be running on this machine
    alive = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
    for actor in list_actors(address=this_cluster, filters=alive):
        os.kill(actor.pid, signal.SIGKILL)
        killed.append(actor.pid)


def test_a_killed_worker_changes_no_bit(straight: Path, weights: Path, tmp_path: Path) -> None:
    killed: list[int] = []
    checkpoints = tmp_path / "checkpoints"
    killer = threading.Thread(target=kill_worker_after_checkpoint, args=(checkpoints, CHECKPOINT, killed))
    killer.start()

    report = train(config_for(weights, checkpoints=str(checkpoints), model=str(tmp_path / "model")))
    killer.join()

    assert len(killed) == 1 and report.finished.steps == STEPS
    assert equal_models(tmp_path / "model", straight / "models/demo")


def command_for(straight: Path, weights: Path, folder: Path) -> list[str]:
    """The command line that trains like `straight`, with its own folders."""
    preset = folder / "tiny.json"
    preset.write_text(json.dumps({"recipe": "demo", "temporal": tiny(STEPS).to_dict()}))
    flags = {
        "store": straight / "store",
        "weights": weights,
        "checkpoints": folder / "checkpoints",
        "model": folder / "model",
        "preset": preset,
        "checkpoint-every-steps": CHECKPOINT,
        "sample-every-steps": STEPS,
        "sample-seconds": 1.0,
    }
    command = [sys.executable, str(REPOSITORY / "jobs/train.py")]
    return command + [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def test_a_second_start_says_so_and_sigterm_ends_the_first_quietly(
    straight: Path, weights: Path, tmp_path: Path, mlflow_uri: str
) -> None:
    """Both with a Ray of their own, as a user without a cluster has it."""
    command, log = command_for(straight, weights, tmp_path), tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"MLFLOW_TRACKING_URI": mlflow_uri, "PYTHONPATH": str(REPOSITORY)}
    with log.open("w") as output:
        first = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=output, stderr=output)
        wait_for_checkpoint(tmp_path / "checkpoints", CHECKPOINT)
        processes = _tree(first.pid)[1:]
        second = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        first.send_signal(signal.SIGTERM)
        ended = first.wait(60)

    name = next((tmp_path / "checkpoints").glob("subject-1-*")).name
    words = rf"error: training {name} is at work already: process {first.pid} on \S+, since \d{{4}}-"
    assert second.returncode == 2 and re.search(words, " ".join(second.stderr.split())), second.stderr
    assert ended == 130, "as after Ctrl-C"
    text = log.read_text()
    assert "Traceback" not in text and "SIGTERM" not in text and "*** " not in text, text
    assert processes
    wait_for(lambda: not any(map(is_alive, processes)), "Ray to end with it")
    assert not (tmp_path / "model").exists()


def test_a_killed_driver_changes_no_bit(
    straight: Path, weights: Path, tmp_path: Path, mlflow_uri: str
) -> None:
    command = command_for(straight, weights, tmp_path)
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address, "MLFLOW_TRACKING_URI": mlflow_uri}

    first = subprocess.Popen(command, env=environment, cwd=tmp_path)
    wait_for_checkpoint(tmp_path / "checkpoints", CHECKPOINT)
    first.kill()
    first.wait()
    assert not (tmp_path / "model").exists()
    second = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert second.returncode == 0, second.stderr
    assert f"{STEPS:,} in" in second.stdout and "nothing to do" not in second.stdout
    assert equal_models(tmp_path / "model", straight / "models/demo")


def test_two_workers_train_on_s3_alone(s3: dict[str, str], weights: Path, work_folder: Path) -> None:
    make_store("s3://motion/store", weights, clips=1, frames=500)
    config = config_for(
        weights,
        store="s3://motion/store",
        checkpoints="s3://motion/runs",
        model="s3://motion/models/demo",
        temporal=tiny(60),
        workers=2,
    )

    interrupt = signal.getsignal(signal.SIGINT)
    report = train(config)

    assert report.finished.steps == 60
    assert signal.getsignal(signal.SIGINT) is interrupt, "Ctrl+C is ours again"
    assert not Path("runs").exists() and not Path("models").exists()
    assert train(config).was_finished


def test_the_basis_of_a_large_snapshot_is_made_in_parallel(
    weights: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(work_folder / "store", weights, clips=7, frames=200)
    snapshot = resolve_snapshot(store, DataChoice(), weights_hash(weights / "generator"))
    monkeypatch.setattr(data_module, "PART_FRAMES", 400)
    assert [len(part.clips) for part in data_module._parts(snapshot)] == [2, 2, 2, 1]

    data = training_set(store, snapshot, tiny())

    w_plus = torch.cat([clip.w_plus for clip in store.snapshot_clips(snapshot)]).double().flatten(1)
    _, singular, rows = torch.linalg.svd(w_plus - w_plus.mean(0), full_matrices=False)
    sigma = singular[:16] / len(w_plus) ** 0.5
    torch.testing.assert_close(data.basis.sigma.double(), sigma, rtol=1e-5, atol=1e-6)
    alignment = (data.basis.components.double() @ rows[:16].T).abs().diagonal()
    torch.testing.assert_close(alignment, torch.ones_like(alignment), rtol=0, atol=1e-5)
    assert data.segments == tuple((first, first + 200) for first in range(0, 1400, 200))
    expected = data.basis.project(w_plus.float().unflatten(1, (8, 16)))
    torch.testing.assert_close(data.coefficients, expected, rtol=1e-4, atol=1e-4)


def test_a_training_that_diverged_leaves_its_last_good_checkpoint(weights: Path, work_folder: Path) -> None:
    make_store("store", weights)
    explosive = tiny(STEPS, optimiser=OptimiserOptions(1e38, 1e-3))  # finite weights after a step, not two
    config = config_for(weights, temporal=explosive, checkpoint_every_steps=1)

    with pytest.raises(DivergenceError, match=r"of step 1, is .*--temporal\.steps 1 makes") as raised:
        train(config)

    assert plan_training(config).folder in str(raised.value) and not Path("models").exists()
    report = train(dataclasses.replace(config, temporal=dataclasses.replace(explosive, steps=1)))
    assert report.finished.steps == load_model("models/demo").card["steps"] == 1


class HeldValidator(Validator):
    """Begins to validate when a file `validate` is there."""

    def __call__(self, checkpoint: Checkpoint, **_: Any) -> dict[str, float]:
        there = Path(self.job.folder, "validate")
        there.with_name("waiting").touch()
        wait_for(there.exists, "the word to validate")
        return super().__call__(checkpoint)


def test_a_validation_that_takes_for_ever_holds_up_no_step(
    weights: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store("store", weights)
    monkeypatch.setattr("svgan_ray.orchestration.train.job.Validator", HeldValidator)
    config = config_for(weights, sample_every_steps=5 * CHECKPOINT, model=str(work_folder / "model"))
    folder, measured = Path(plan_training(config).folder), list[bool]()

    def let_validate_at_the_end() -> None:
        wait_for((folder / "waiting").exists, "the first validation")
        wait_for_checkpoint(folder.parent, STEPS)  # every step was taken, and every checkpoint put, meanwhile
        measured.append((folder / BEST).exists())
        (folder / "validate").touch()

    watcher = threading.Thread(target=let_validate_at_the_end)
    watcher.start()
    train(config)
    watcher.join()

    assert measured == [False]
    assert load_checkpoint(folder / BEST).step % CHECKPOINT == 0
    assert load_model(work_folder / "model").card["steps"] == STEPS


def test_an_error_of_a_worker_is_the_trainings_own(
    tmp_path: Path, weights: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    make_store("store", weights)
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "64k"), pytest.raises(SvganRayError, match="space") as raised:
        train(config_for(weights, checkpoints=str(disk)))
    assert isinstance(raised.value.__cause__, WorkerGroupError)
