"""A study on Ray Tune: Optuna proposes options, trials train with them, the worse ones stop early.

If the same study is run again, it goes on: interrupted trials resume from their checkpoints, ended ones stay.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import optuna
import ray
from ray import tune
from ray.train import Checkpoint
from ray.tune import CheckpointConfig, FailureConfig, ResultGrid, RunConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from rich.console import RenderableType

from svgan_ray.config import TuneConfig
from svgan_ray.errors import ConfigError, TrainingError
from svgan_ray.files import write_whole
from svgan_ray.orchestration.runtime.folders import filesystem
from svgan_ray.orchestration.runtime.held import held_alone
from svgan_ray.orchestration.runtime.journal import RemoteRun, start_journal
from svgan_ray.orchestration.runtime.machines import label_selector, resources_of
from svgan_ray.orchestration.runtime.settings import log_settings
from svgan_ray.orchestration.runtime.start import started
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.export import export_model
from svgan_ray.orchestration.train.validation import require_measurable
from svgan_ray.orchestration.tune.earlier_versions import find_moved_modules
from svgan_ray.orchestration.tune.plan import StudyPlan, plan_only, plan_study
from svgan_ray.orchestration.tune.progress import TrialBook, study_progress
from svgan_ray.orchestration.tune.report import TuneReport, list_of, preset_of, trial_rows
from svgan_ray.orchestration.tune.search import close_open_trials, open_study, study_search
from svgan_ray.orchestration.tune.trial import SEQUENCES, run_trial
from svgan_ray.runs.run import Status
from svgan_ray.store.keys import as_name
from svgan_ray.temporal.recipes import TemporalConfig

__all__ = ["plan", "run"]

MAX_FAILURES = 3
REDUCTION = 2
"""One in this many of the trials that reach a measurement goes on."""
_SAVE_EVERY_S = "1"


def plan(config: TuneConfig) -> RenderableType:
    """The plan, the search space and the cost, estimated from a few steps; nothing is stored."""
    return plan_only(config)


def run(config: TuneConfig) -> TuneReport:
    """Run the study that `config` describes, or go on with it.

    Raises DataError, ConfigError, and TrainingError if no trial was measured.
    """
    plan = plan_study(config)
    with held_alone(f"{plan.folder}/{config.study}", f"study {config.study}"):
        return _run_alone(plan)


def _run_alone(plan: StudyPlan) -> TuneReport:
    config = plan.config
    data = training_set(plan.open_store(), plan.snapshot, plan.base)
    data.index(plan.base.window_frames)
    require_measurable(data, plan.base.frame_rate_hz)
    storage, path = filesystem(f"{plan.folder}/{config.study}")
    is_begun = Tuner.can_restore(path, storage)
    if config.resume and not is_begun:
        raise ConfigError(f"--resume: no study {config.study} was begun in {plan.folder}; see --study-folder")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(plan, is_begun)
    # Tune saves its state every 10 s or more; what is lost by a kill is trained or proposed again.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", _SAVE_EVERY_S)
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its banner ignores `verbose`
    with started(plan.store, [plan.snapshot.generator_sha256], plan.config.machines):
        return _tune(plan, study, storage, path)


def _tune(plan: StudyPlan, study: optuna.Study, storage: Any, path: str) -> TuneReport:
    run = RemoteRun(start_journal(plan.identity), plan.run)
    log_settings(run, plan.config)
    run.log_input(plan.snapshot.name, plan.snapshot.digest, plan.store)
    run.link({"inversion": plan.snapshot.inversion_id, "snapshot": plan.snapshot.digest})
    status: Status = "FAILED"
    try:
        with study_progress(run, plan):
            results = _tuner(plan, study, storage, path).fit()
        close_open_trials(study)
        report = _finish(plan, results, run)
        status = "FINISHED"
    finally:
        ray.get(run.journal.finish_all.remote(status))
        ray.kill(run.journal)  # its name is free for the next run of the study
    return report


def _tuner(plan: StudyPlan, study: optuna.Study, storage: Any, path: str) -> Tuner:
    bundle, labels = _trial_resources(plan), label_selector(plan.config.machines)
    resources = tune.PlacementGroupFactory([bundle], bundle_label_selector=[labels])
    trainable = tune.with_resources(tune.with_parameters(run_trial, plan=plan), resources)
    if Tuner.can_restore(path, storage):
        find_moved_modules()
        return Tuner.restore(path, trainable, param_space={}, storage_filesystem=storage, resume_errored=True)
    return Tuner(
        trainable,
        param_space={},
        tune_config=tune.TuneConfig(
            metric=None if plan.config.pareto else plan.objective,  # several are the search's own
            mode=None if plan.config.pareto else "min",
            search_alg=study_search(plan, optuna.storages.RDBStorage(plan.search_storage)),
            scheduler=None if plan.config.pareto else _early_stopping(plan),
            num_samples=plan.config.trials,
            max_concurrent_trials=plan.config.concurrent_trials or _places(plan, bundle),
            trial_dirname_creator=_trial_folder,
        ),
        run_config=RunConfig(
            name=plan.config.study,
            storage_path=filesystem(plan.folder)[1],
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=[TrialBook(plan)],
            verbose=0,
        ),
    )


def _early_stopping(plan: StudyPlan) -> ASHAScheduler:
    return ASHAScheduler(
        SEQUENCES,
        max_t=plan.sequences,
        grace_period=max(1, plan.sequences // plan.config.rungs),
        reduction_factor=REDUCTION,
        stop_last_trials=False,
    )


def _trial_folder(trial: Trial) -> str:
    return f"trial-{trial.trial_id}"


def _trial_resources(plan: StudyPlan) -> dict[str, float]:
    has_gpu = resources_of(plan.config.machines).get("GPU", 0) > 0
    return {"CPU": 1, **({"GPU": plan.config.gpus_per_trial} if has_gpu else {})}


def _places(plan: StudyPlan, bundle: dict[str, float]) -> int:
    """The number of trials that can run on the cluster in parallel."""
    there = resources_of(plan.config.machines)
    return max(1, int(min(there.get(name, 0) / share for name, share in bundle.items())))


def _finish(plan: StudyPlan, results: ResultGrid, run: RemoteRun) -> TuneReport:
    """Write the table, the preset and the model."""
    rows = trial_rows(plan, results)
    measured = [
        (row.objective, row, result)
        for row, result in zip(rows, list_of(results), strict=True)
        if row.is_sound and row.objective is not None and result.checkpoint is not None
    ]
    if not measured:
        raise TrainingError(
            f"study {plan.config.study}: none of {len(rows)} trials came to a measurement; "
            f"their runs and {plan.folder} say why"
        )
    _, best, result = min(measured, key=lambda entry: entry[0])
    options = TemporalConfig.from_dict((result.config or {})["temporal"])
    preset = preset_of(plan, options, best)
    run.log_file(Path(plan.preset).name, preset)
    write_whole(plan.preset, preset)
    name = f"{as_name(plan.config.study)}/{plan.identity}/{best.trial_id}"
    checkpoint = cast(Checkpoint, result.checkpoint)
    export_model(checkpoint, name, plan.model, plan.open_store(), plan.snapshot, run)
    return TuneReport(plan, rows, best)
