"""From a checkpoint to a registered model, and from there to the champion and to other jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from ray.train import Checkpoint

from svgan_ray.config import DataChoice, EvaluateConfig
from svgan_ray.orchestration.evaluate.job import plan as plan_evaluation
from svgan_ray.orchestration.evaluate.job import run as evaluate
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.export import export_model, subject_means
from svgan_ray.runs import open_run
from svgan_ray.runs.local_run import LocalRun
from svgan_ray.store.weights import put_weights
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.checkpoints import save_checkpoint
from svgan_ray.temporal.model import load_model
from svgan_ray.temporal.training import new_state
from tests.motion import make_store, tiny


class Direct:
    """A RemoteRun without an actor between it and the run."""

    def __init__(self, run: LocalRun) -> None:
        self.log_model, self.link = run.log_model, run.link

    def log_file(self, path: str, content: bytes) -> None:
        """The files are in the model's folder."""


@pytest.fixture
def exported(work_folder: Path, weights: Path) -> Path:
    store = make_store("store", weights, subjects=2, clips=2, frames=1500)
    snapshot = resolve_snapshot(
        store, DataChoice(subject="subject-1"), put_weights(store, weights / "generator")
    )
    save_checkpoint(new_state(tiny(), training_set(store, snapshot, tiny()).basis), "checkpoint")
    checkpoint = Checkpoint.from_directory("checkpoint")
    means = subject_means(store, snapshot.inversion_id)
    assert set(means) == {"subject-1", "subject-2"} and not torch.equal(*means.values())
    with open_run("svgan-ray", "train", "train", "exported") as run:
        export_model(checkpoint, "a", "models/demo", store, snapshot, Direct(run))  # type: ignore[arg-type]
    return work_folder


def test_an_evaluated_model_is_the_champion_that_jobs_can_name(exported: Path, mlflow_uri: str) -> None:
    report = evaluate(EvaluateConfig(samples=40, seconds=16.0))

    assert report.standing == "motion-subject-1 version 1 is the champion now"
    version = MlflowClient(mlflow_uri).get_model_version_by_alias("motion-subject-1", "champion")
    assert float(version.tags["svgan_ray.evaluation.distance"]) > 1
    named = plan_evaluation(EvaluateConfig(model="models:/motion-subject-1@champion"))
    assert named.model_sha256 == weights_hash("models/demo")
    assert torch.equal(named.model.w_ref.cpu(), load_model("models/demo").w_ref)
