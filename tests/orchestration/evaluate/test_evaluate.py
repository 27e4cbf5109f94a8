"""The evaluation job on a model that was hardly trained: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from svgan_ray.config import DataChoice, EvaluateConfig
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.orchestration.evaluate.job import plan as plan_evaluation
from svgan_ray.orchestration.evaluate.job import run as evaluate
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.export import card_of
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.model import model_of, save_model
from svgan_ray.temporal.training import new_state
from tests.full_disk import full_disk
from tests.motion import make_store, motion, put_clip, tiny


@pytest.fixture
def trained(work_folder: Path, weights: Path) -> Path:
    """A store with training and held-out footage, a model in the working directory."""
    store = make_store("store", weights, subjects=1, clips=2, frames=1500)
    sha256 = weights_hash(weights / "generator")
    snapshot = resolve_snapshot(store, DataChoice(subject="subject-1"), sha256)
    put_clip(store, "subject-1 later", motion(1500, 99), sha256)
    resolve_snapshot(store, DataChoice(subject="subject-1 later"), sha256)
    data = training_set(store, snapshot, tiny())
    state = new_state(tiny(), data.basis)
    save_model(model_of(state, data.basis.mean.clone(), sha256, card_of(snapshot)), "models/demo")
    return work_folder


def config_for(**changes: Any) -> EvaluateConfig:
    return EvaluateConfig(**{"samples": 40, "seconds": 16.0, **changes})


def test_a_report_a_figure_and_a_run_come_of_it(trained: Path, mlflow_uri: str) -> None:
    report = evaluate(config_for(snapshot="subject-1-later@1"))

    document = json.loads(Path("reports/evaluation.json").read_text())
    assert document["figures"]["diversity"] == pytest.approx(report.motion.diversity)
    assert document["figures"]["frechet_motion_2s/generated_at_0_s"] > 5  # it was not trained
    assert {row["of"] for row in document["rows"]} >= {"control: frozen frame", "generated at 10 s"}
    assert document["real"]["digest"] != document["held_out"]["digest"]
    assert "memorisation/p_value" in document["figures"]
    with Image.open("reports/evaluation.png") as figure:
        assert figure.width > 1000
    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("svgan-ray")
    run = client.search_runs([experiment.experiment_id], "tags.`svgan_ray.kind` = 'evaluate'")[0]
    assert run.data.metrics["diversity"] == pytest.approx(report.motion.diversity)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "evaluation.json",
        "evaluation.png",
        "settings.json",
    }
    assert {data.tags[0].value for data in run.inputs.dataset_inputs} == {"evaluation", "held out"}


def test_a_disk_without_space_ends_with_a_word_and_leaves_no_report(trained: Path) -> None:
    with full_disk(), pytest.raises(ConfigError, match=r"--out .*evaluation\.json: cannot be written"):
        evaluate(config_for())
    assert list(Path("reports").iterdir()) == []


def test_footage_that_is_not_the_models_is_refused(trained: Path, weights: Path) -> None:
    assert plan_evaluation(config_for()).real.clips[0].subject == "subject-1"
    later = plan_evaluation(config_for(subject="subject-1 later"))
    assert later.real.clips[0].subject == "subject-1 later"
    with pytest.raises(DataError, match="no snapshot subject-9"):
        plan_evaluation(config_for(snapshot="subject-9"))
    make_store("other", weights, clips=1, frames=60)
    with pytest.raises(DataError, match="no snapshot subject-1@1"):
        plan_evaluation(config_for(store="other"))
