"""The parts of a study without a cluster: plan, database, search, one trial, the preset it leaves."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray import tune

from svgan_ray.config import TrainConfig, TuneConfig
from svgan_ray.errors import ConfigError
from svgan_ray.experiment_file import ExperimentFile
from svgan_ray.orchestration.train.validation import DRIFT, FIDELITY, FRECHET, OBJECTIVE, WORST
from svgan_ray.orchestration.tune import trial as trial_module
from svgan_ray.orchestration.tune.job import run as tune_study
from svgan_ray.orchestration.tune.plan import StudyPlan, plan_study
from svgan_ray.orchestration.tune.plan import plan_only as dry_run
from svgan_ray.orchestration.tune.report import TrialRow, TuneReport, preset_of
from svgan_ray.orchestration.tune.search import open_study, study_search
from svgan_ray.orchestration.tune.trial import SEQUENCES, run_trial
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.recipes import OptimiserOptions, TemporalConfig, demo
from svgan_ray.temporal.spaces import known_point, suggest_config
from tests.motion import make_store, tiny


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plan(weights: Path) -> StudyPlan:
    make_store("store", weights, clips=2, frames=600)
    return plan_study(config_for(weights))


def config_for(weights: Path, **changes: Any) -> TuneConfig:
    values = {"weights": str(weights), "temporal": tiny(40), "trials": 4, "rungs": 4}
    return TuneConfig(**{**values, **changes})


def test_a_dry_run_shows_the_space_and_the_cost_and_makes_nothing(weights: Path) -> None:
    store = make_store("store", weights, clips=1, frames=100)

    shown = dry_run(config_for(weights))

    assert store.snapshot_names() == []
    assert {path.name for path in Path().iterdir()} == {"store"}
    assert "minutes" in str(shown.renderables[-1])  # type: ignore[attr-defined]


def test_the_budget_is_in_sequences_whatever_the_batch(plan: StudyPlan) -> None:
    assert plan.sequences == 160
    assert [plan.steps_at(n, 4) for n in range(1, 5)] == [10, 20, 30, 40]
    assert [plan.steps_at(n, 16) for n in range(1, 5)] == [3, 5, 8, 10]


def test_a_study_goes_on_only_with_the_settings_that_it_was_begun_with(
    plan: StudyPlan, weights: Path
) -> None:
    open_study(plan, is_begun=False)
    open_study(plan, is_begun=True)
    with pytest.raises(ConfigError, match=r"does not match .*folder is gone"):
        open_study(plan, is_begun=False)
    with pytest.raises(ConfigError, match=r"does not match \(temporal, trials\)"):
        open_study(plan_study(config_for(weights, trials=9, temporal=tiny(80))), is_begun=True)


def test_a_study_is_looked_for_in_the_database_in_which_it_was_begun(plan: StudyPlan, weights: Path) -> None:
    open_study(plan, is_begun=False)
    elsewhere = plan_study(config_for(weights, search_storage="sqlite:///elsewhere.db"))
    with pytest.raises(ConfigError, match=r"begun with another --search-storage than sqlite.*elsewhere\.db"):
        open_study(elsewhere, is_begun=True)
    assert optuna.get_all_study_names(elsewhere.search_storage) == []


def test_a_study_of_somebody_elses_is_left_alone(plan: StudyPlan) -> None:
    theirs = optuna.create_study(storage=plan.search_storage, study_name=plan.config.study)
    theirs.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(ConfigError, match="does not match"):
        open_study(plan, is_begun=True)
    assert len(optuna.load_study(storage=plan.search_storage, study_name=plan.config.study).trials) == 1


def test_a_study_that_was_not_begun_cannot_be_resumed(weights: Path) -> None:
    make_store("store", weights, clips=2, frames=600)
    with pytest.raises(ConfigError, match="no study mistyped was begun"):
        tune_study(config_for(weights, study="mistyped", resume=True))
    assert not Path("optuna.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://anna:planted-password@127.0.0.1/optuna", "holds a password"),
        ("postgresql://anna@127.0.0.1:9/optuna", r"cannot be used .*127\.0\.0\.1"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_its_password(
    url: str, words: str, plan: StudyPlan, weights: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        open_study(plan_study(config_for(weights, search_storage=url)), is_begun=False)
    assert "planted" not in str(refusal.value)


def test_the_search_begins_with_the_recipe_and_the_same_seed_proposes_the_same(plan: StudyPlan) -> None:
    proposals = []
    for name in ("a", "b"):
        storage = optuna.storages.RDBStorage(f"sqlite:///{name}.db")
        search = study_search(plan, storage)
        proposals.append([search.suggest(f"trial-{number}") for number in range(3)])
        storage.engine.dispose()

    first = TemporalConfig.from_dict(proposals[0][0]["temporal"])
    assert first == suggest_config(optuna.trial.FixedTrial(known_point(plan.base)), plan.base)
    assert proposals[0] == proposals[1]


def test_a_search_that_is_told_twice_keeps_the_first_word(plan: StudyPlan, tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'a.db'}")
    search = study_search(plan, storage)
    search.suggest("one")
    search.save("state")  # what Tune had saved when it was killed
    search.on_trial_complete("one", {OBJECTIVE: 3.0, "training_iteration": 1})
    search.suggest("lost")

    search.restore("state")
    search.on_trial_result("one", {OBJECTIVE: 4.0, "training_iteration": 2})
    search.on_trial_complete("one", {OBJECTIVE: 4.0, "training_iteration": 2})

    trials = optuna.load_study(study_name="demo", storage=storage).trials
    assert [(t.state, t.value) for t in trials] == [(TrialState.COMPLETE, 3.0), (TrialState.FAIL, None)]
    storage.engine.dispose()


class Session:
    """What Tune gives a trial: keeps its reports, hands its checkpoint back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.reports: list[dict[str, Any]] = []
        self.checkpoint: tune.Checkpoint | None = None
        self.tags: dict[str, object] = {}
        self.folder = folder
        run = SimpleNamespace(
            key=SimpleNamespace(name="trial one"),
            log_params=lambda _: None,
            log_metrics=lambda *_: None,
            log_checkpoint=lambda *_: None,
            set_tags=self.tags.update,
        )
        monkeypatch.setattr(trial_module.ray, "get_actor", lambda _: None)
        monkeypatch.setattr(trial_module, "RemoteRun", lambda *_: run)
        monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "one"))
        monkeypatch.setattr(tune, "get_checkpoint", lambda: self.checkpoint)
        monkeypatch.setattr(tune, "report", self.report)

    def report(self, metrics: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        self.reports.append(metrics)
        if checkpoint is not None:
            place = self.folder / f"report-{len(self.reports)}"
            self.checkpoint = tune.Checkpoint(checkpoint.to_directory(str(place)))


def test_a_trial_reports_after_each_share_of_its_budget_and_resumes_there(
    plan: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(monkeypatch, tmp_path)
    config = {"temporal": plan.base.to_dict()}

    run_trial(config, plan)

    assert [report[SEQUENCES] for report in session.reports] == [40, 80, 120, 160]
    assert all(math.isfinite(report[OBJECTIVE]) for report in session.reports)
    assert load_checkpoint(tmp_path / "report-4").step == 40
    session.checkpoint = tune.Checkpoint(str(tmp_path / "report-3"))
    run_trial(config, plan)
    assert session.reports[4:] == session.reports[3:4]
    run_trial(config, plan)  # it had ended when it was cut off
    assert session.reports[5:] == session.reports[3:4]


def test_a_trial_that_diverges_reports_the_worst_and_ends(
    plan: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(monkeypatch, tmp_path)
    explosive = tiny(40, optimiser=OptimiserOptions(1e38, 1e38))

    run_trial({"temporal": explosive.to_dict()}, plan)

    assert [report[OBJECTIVE] for report in session.reports] == [WORST]
    assert session.reports[0]["diverged"] is True and "diverged" in str(session.tags["diverged"])


def test_a_preset_gives_training_the_trials_options_and_the_recipes_steps(plan: StudyPlan) -> None:
    found = tiny(40, optimiser=OptimiserOptions(1e-3, 2e-3), ema_decay=0.99)
    row = TrialRow(3, "abc", 1.5, "finished", 160, 0.1, {})
    Path("preset.json").write_bytes(preset_of(plan, found, row))

    config = ExperimentFile(Path("experiment.toml"), {}, {}).config(TrainConfig, preset="preset.json")

    assert config.preset == "preset.json"
    assert config.temporal == tiny(demo().steps, optimiser=OptimiserOptions(1e-3, 2e-3), ema_decay=0.99)
    assert json.loads(Path("preset.json").read_text())["found_by"][OBJECTIVE] == 1.5
    Path("preset.json").write_text('{"recipe": "demo", "temporal": {"baches": 4}}')
    with pytest.raises(ConfigError, match="no key 'baches'"):
        ExperimentFile(Path("experiment.toml"), {}, {}).config(TrainConfig, preset="preset.json")
    with pytest.raises(ConfigError, match="No such file"):
        ExperimentFile(Path("experiment.toml"), {}, {}).config(TrainConfig, preset="none.json")


def test_known_good_presets_are_tried_right_after_the_recipe(plan: StudyPlan, weights: Path) -> None:
    found = tiny(40, optimiser=OptimiserOptions(2e-4, 3e-4), batch_size=64)
    row = TrialRow(3, "abc", 1.5, "finished", 160, 0.1, {})
    for name in ("good.json", "again.json"):
        Path(name).write_bytes(preset_of(plan, found, row))
    with pytest.raises(ConfigError, match="No such file"):
        plan_study(config_for(weights, enqueue=("none.json",)))
    Path("flow.json").write_text('{"recipe": "flow", "temporal": {}}')
    with pytest.raises(ConfigError, match=r"flow\.json: expected a preset of the family 'gan'"):
        plan_study(config_for(weights, enqueue=("flow.json",)))
    plan = plan_study(config_for(weights, enqueue=("good.json", "again.json")))
    storage = optuna.storages.RDBStorage("sqlite:///a.db")
    search = study_search(plan, storage)
    proposals = [search.suggest(f"trial-{number}")["temporal"] for number in range(3)]
    storage.engine.dispose()

    speeds = [proposal["optimiser"]["critic_learning_rate"] for proposal in proposals]
    assert speeds[:2] == [plan.base.optimiser.critic_learning_rate, 3e-4]
    assert speeds[2] not in speeds[:2] and proposals[1]["batch_size"] == 64


@pytest.mark.parametrize("pareto", [False, True])
def test_a_study_that_was_begun_with_frechet_distances_goes_on_with_them(
    plan: StudyPlan, weights: Path, pareto: bool
) -> None:
    """Its settings, as version 0.1.0 wrote them, name them or say nothing of what else there might be."""
    config = config_for(weights, study="old", pareto=pareto)
    old = dataclasses.replace(plan_study(config), objective=FRECHET)
    assert set(old.settings) == set(plan.settings) and old.objectives[0] in (FRECHET, FIDELITY)
    open_study(old, is_begun=False)

    again = plan_study(config)

    assert again.objective == FRECHET and again.identity == old.identity
    open_study(again, is_begun=True)
    assert plan_study(config_for(weights, study="new", pareto=pareto)).objective == OBJECTIVE


def test_two_objectives_make_a_front_and_a_diverged_trial_ends_with_the_worst_of_both(
    plan: StudyPlan, weights: Path
) -> None:
    plan = plan_study(config_for(weights, study="two", pareto=True))
    assert plan.identity != plan_study(config_for(weights, study="two")).identity
    study = open_study(plan, is_begun=False)
    storage = optuna.storages.RDBStorage(plan.search_storage)
    search = study_search(plan, storage)
    for number, (fidelity, drift) in enumerate([(1.0, 3.0), (2.0, 1.0), (2.0, 2.0), (WORST, WORST)]):
        search.suggest(str(number))
        result = {FIDELITY: fidelity, DRIFT: drift, "training_iteration": 1}
        search.on_trial_result(str(number), result)
        search.on_trial_complete(str(number), result)

    states = {trial.state for trial in study.trials}
    storage.engine.dispose()
    assert states == {TrialState.COMPLETE} and sorted(t.number for t in study.best_trials) == [0, 1]
    rows = tuple(
        TrialRow(number, "", sum(values), "finished", 160, 0.1, {}, values)
        for number, values in enumerate([(1.0, 3.0), (2.0, 1.0), (2.0, 2.0)])
    )
    report = TuneReport(plan, rows, rows[1])
    assert [row.number for row in report.front] == [0, 1]
    (table, *_) = report.__rich__().renderables  # type: ignore[attr-defined]
    assert [column.header for column in table.columns[1:4]] == [OBJECTIVE, FIDELITY, DRIFT]
    assert list(table.columns[4].cells).count("finished, on the front") == 2
