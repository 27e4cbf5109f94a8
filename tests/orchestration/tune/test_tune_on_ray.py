"""A study on Ray Tune: what it leaves behind, and that a kill of its driver loses and repeats nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState
from pyarrow.fs import FileSelector
from ray import tune
from ray.tune import CheckpointConfig, RunConfig, Tuner
from ray.util import placement_group_table

from svgan_ray.config import TrainConfig, TuneConfig
from svgan_ray.experiment_file import ExperimentFile
from svgan_ray.orchestration.runtime.folders import filesystem
from svgan_ray.orchestration.runtime.journal import start_journal
from svgan_ray.orchestration.train.validation import OBJECTIVE
from svgan_ray.orchestration.tune import job as tune_module
from svgan_ray.orchestration.tune.job import run as tune_study
from svgan_ray.orchestration.tune.plan import StudyPlan, plan_study
from svgan_ray.orchestration.tune.report import list_of
from svgan_ray.orchestration.tune.search import open_study
from svgan_ray.orchestration.tune.trial import SEQUENCES
from svgan_ray.temporal.model import load_model
from tests.motion import make_store, tiny
from tests.orchestration.faulty_workers import wait_for
from tests.postgres_server import postgres_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400), pytest.mark.usefixtures("ray_of_two_cpus")]

TRIALS, EVALUATIONS = 4, 4
SQLITE = "sqlite:///optuna.db"  # where the study ran
REPOSITORY = Path(__file__).parents[3]


def config_for(weights: Path, **changes: Any) -> TuneConfig:
    values = {"weights": str(weights), "temporal": tiny(80), "trials": TRIALS, "rungs": EVALUATIONS}
    return TuneConfig(**{**values, **changes})


def trials_in(database: str, study: str) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(database)
    trials = optuna.load_study(study_name=study, storage=storage).trials
    storage.engine.dispose()
    return trials


def runs_of(uri: str, study: str) -> tuple[Run, list[Run]]:
    """The study's run and those of its trials."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("svgan-ray").experiment_id
    (parent,) = client.search_runs([experiment], f"attributes.run_name = 'tune {study}'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, children


@pytest.fixture(scope="module")
def studied(
    tmp_path_factory: pytest.TempPathFactory, weights: Path, mlflow_uri: str, ray_of_two_cpus: None
) -> Iterator[Path]:
    """A folder in which a study ran."""
    folder = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
        make_store("store", weights, clips=2, frames=1000)
        report = tune_study(config_for(weights))
        assert len(report.trials) == TRIALS
        assert report.best.objective == min(t.objective for t in report.trials if t.objective is not None)
        yield folder


def test_every_trial_has_ended_and_is_a_child_run(studied: Path, weights: Path, mlflow_uri: str) -> None:
    trials = trials_in(SQLITE, "demo")
    parent, children = runs_of(mlflow_uri, "demo")

    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * TRIALS
    assert len(children) == TRIALS
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    best = min(trial.value for trial in trials if trial.value is not None)
    assert parent.data.metrics[f"best_{OBJECTIVE}"] == pytest.approx(best)
    assert {"generator_learning_rate", "adversarial"} <= children[0].data.params.keys()
    assert "train/critic" in children[0].data.metrics and OBJECTIVE in children[0].data.metrics


def test_the_best_trial_is_a_model_and_a_preset(studied: Path, weights: Path) -> None:
    model = load_model("models/demo-tuned")
    preset = json.loads(Path("presets/tuned.json").read_text())

    assert preset["found_by"]["study"] == "demo"
    config = ExperimentFile(Path("none.toml"), {}, {}).config(TrainConfig, preset="presets/tuned.json")
    assert config.temporal.optimiser == model.config.optimiser
    assert config.temporal.generator == model.config.generator
    assert config.temporal.batch_size == model.config.batch_size


def test_the_same_study_again_runs_nothing(studied: Path, weights: Path, mlflow_uri: str) -> None:
    before = trials_in(SQLITE, "demo")

    report = tune_study(config_for(weights))

    assert len(report.trials) == TRIALS
    after = trials_in(SQLITE, "demo")
    assert [trial.datetime_complete for trial in after] == [trial.datetime_complete for trial in before]
    assert len(runs_of(mlflow_uri, "demo")[1]) == TRIALS


def later_is_worse(config: dict[str, Any], plan: StudyPlan) -> None:
    """Takes the place of a trial: it reports its start time, so all but the first ones are stopped early."""
    started_s = time.time()
    for evaluation in range(1, EVALUATIONS + 1):
        time.sleep(0.5)
        tune.report({OBJECTIVE: started_s, SEQUENCES: plan.sequences * evaluation // EVALUATIONS})


def test_a_stopped_trial_gives_its_place_to_the_next(
    studied: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "run_trial", later_is_worse)
    plan = plan_study(config_for(weights, study="stopped", trials=6))
    study = open_study(plan, is_begun=False)
    journal = start_journal(plan.identity)

    results = tune_module._tuner(plan, study, *filesystem(f"{plan.folder}/stopped")).fit()

    ray.get(journal.finish_all.remote("FINISHED"))
    ray.kill(journal)
    seen = sorted(result.metrics[SEQUENCES] for result in list_of(results))
    assert len(seen) == 6 and seen[:4] == [plan.sequences // EVALUATIONS] * 4, "the later ones were stopped"
    assert seen[-1] == plan.sequences
    wait_for(
        lambda: {group["state"] for group in placement_group_table().values()} == {"REMOVED"},
        "all placement groups to be removed",
    )
    wait_for(lambda: ray.available_resources().get("CPU") == 2, "both CPUs to be free")


def dies_once(config: dict[str, Any]) -> None:
    """Takes the place of a trial: it counts to three, and dies after the second checkpoint."""
    start = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            start = int(Path(folder, "count").read_text())
    for count in range(start + 1, 4):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "count").write_text(str(count))
            tune.report({"count": count, "start": start}, checkpoint=tune.Checkpoint.from_directory(folder))
        if start == 0 and count == 2:
            raise RuntimeError("dies once")


def test_a_study_on_s3_goes_on_from_the_last_checkpoint(ray_of_two_cpus: None) -> None:
    storage, path = filesystem("s3://motion/studies/restored")
    assert not Tuner.can_restore(path, storage)
    options = RunConfig(
        name="restored",
        storage_path=filesystem("s3://motion/studies")[1],
        storage_filesystem=storage,
        checkpoint_config=CheckpointConfig(num_to_keep=1),
    )

    (dead,) = list_of(Tuner(dies_once, run_config=options).fit())
    assert dead.error is not None and dead.metrics["count"] == 2
    assert Tuner.can_restore(path, storage)
    again = Tuner.restore(path, dies_once, storage_filesystem=storage, resume_errored=True)
    (done,) = list_of(again.fit())

    assert (done.error, done.metrics["start"], done.metrics["count"]) == (None, 2, 3)
    files = storage.get_file_info(FileSelector(path, recursive=True))
    assert [file.base_name for file in files if "/checkpoint_" in file.path] == ["checkpoint_000002", "count"]


@pytest.fixture
def postgres() -> Iterator[str]:
    """Address of an empty database."""
    with postgres_server() as databases:
        yield databases["OPTUNA_DATABASE"]


def test_a_killed_study_in_postgres_goes_on_and_repeats_nothing(
    studied: Path, weights: Path, tmp_path: Path, mlflow_uri: str, postgres: str
) -> None:
    preset = tmp_path / "tiny.json"
    preset.write_text(json.dumps({"recipe": "demo", "temporal": tiny().to_dict()}))
    flags = {
        "store": studied / "store",
        "weights": weights,
        "preset": preset,
        "temporal.steps": 400,
        "study": "killed",
        "search-storage": postgres,
        "trials": TRIALS,
        "evaluations": EVALUATIONS,
    }
    command = [sys.executable, str(REPOSITORY / "jobs/tune.py")]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address, "MLFLOW_TRACKING_URI": mlflow_uri}

    first = subprocess.Popen(command, env=environment, cwd=tmp_path)
    wait_for_measurement(tmp_path / "runs/tune/killed")
    first.kill()
    first.wait()
    begun = {t.number: t.params for t in trials_in(postgres, "killed") if t.state != TrialState.WAITING}
    second = subprocess.run(
        [*command, "--resume"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )

    assert second.returncode == 0, second.stdout + second.stderr
    trials = trials_in(postgres, "killed")
    assert Counter(trial.state for trial in trials)[TrialState.COMPLETE] == TRIALS
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    proposals = [json.dumps(t.params, sort_keys=True) for t in trials if t.state == TrialState.COMPLETE]
    assert len(set(proposals)) == TRIALS
    assert all(trials[number].params == params for number, params in begun.items())
    _, children = runs_of(mlflow_uri, "killed")
    assert len(children) == TRIALS and {run.info.status for run in children} == {"FINISHED"}


def wait_for_measurement(folder: Path) -> None:
    """Wait until a trial has a checkpoint, and Tune has saved its own state after that."""

    def saved(pattern: str) -> list[float]:
        return sorted(path.stat().st_mtime for path in folder.glob(pattern))

    wait_for(lambda: saved("trial-*/checkpoint_*/checkpoint.json"), "a measurement")
    (first, *_) = saved("trial-*/checkpoint_*/checkpoint.json")
    wait_for(lambda: saved("experiment_state-*.json")[-1:] > [first], "Tune to save its state")


def test_a_study_of_another_name_needs_the_same_settings(studied: Path, weights: Path) -> None:
    assert plan_study(config_for(weights)).identity != plan_study(config_for(weights, seed=1)).identity
