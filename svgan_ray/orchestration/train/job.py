"""Training on Ray Train: snapshot -> basis -> temporal GAN -> model, with samples rendered beside it.

The same snapshot, options and weights are the same training. If it is run again, it goes on from its last
checkpoint, or reports that it is finished.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import ray
from ray.train import (
    Checkpoint,
    LoggingConfig,
    ValidationConfig,
)
from ray.train.torch import TorchConfig
from rich.console import Group, RenderableType
from rich.table import Table

from svgan_ray.config import TrainConfig
from svgan_ray.errors import DivergenceError
from svgan_ray.orchestration.runtime.folders import filesystem, write_record
from svgan_ray.orchestration.runtime.held import held_alone
from svgan_ray.orchestration.runtime.journal import RemoteRun, start_journal
from svgan_ray.orchestration.runtime.machines import label_selector
from svgan_ray.orchestration.runtime.ray_train_compat import (
    CheckpointConfig,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TorchTrainer,
)
from svgan_ray.orchestration.runtime.settings import log_settings
from svgan_ray.orchestration.runtime.snapshots import snapshot_rows
from svgan_ray.orchestration.runtime.start import started
from svgan_ray.orchestration.runtime.suggested import next_step
from svgan_ray.orchestration.runtime.worker_groups import run_trainer, use_gpu
from svgan_ray.orchestration.train.checkpoints import explosion_of
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.export import export_model, restore_model
from svgan_ray.orchestration.train.loop import Outcome, train_worker
from svgan_ray.orchestration.train.plan import FINISHED, Finished, TrainingPlan, plan_training
from svgan_ray.orchestration.train.progress import training_progress
from svgan_ray.orchestration.train.validation import FRECHET, OBJECTIVE, Validator

__all__ = ["TrainReport", "plan", "run"]

MAX_FAILURES = 3
KEPT_CHECKPOINTS = 3
"""The number of latest checkpoints that Ray keeps; the best one by validation is kept as well."""
WORKER_GPUS, VALIDATION_GPUS = 0.75, 0.25
"""Shares of a GPU, so that a machine with one renders samples while it trains."""


@dataclass(frozen=True)
class TrainReport:
    """The result of a training."""

    plan: TrainingPlan
    finished: Finished
    was_finished: bool

    exit_code = 0

    def __rich__(self) -> RenderableType:
        table = Table(box=None, show_header=False)
        if self.was_finished:
            table.add_row(
                "nothing to do", "this training is finished; more --temporal.steps would go on with it"
            )
        snapshot_rows(self.plan.job.snapshot, table)
        table.add_row("steps", f"{self.finished.steps:,} in {self.finished.elapsed_s / 60:.1f} minutes")
        for name in (OBJECTIVE, FRECHET, "diversity", "jitter"):
            if name in self.finished.figures:
                table.add_row(name, f"{self.finished.figures[name]:.3g}")
        table.add_row("model", self.plan.model)
        return Group(table, next_step("sample", model=self.plan.model, weights=self.plan.config.weights))


def plan(config: TrainConfig) -> TrainingPlan:
    """The plan of `run`; nothing is stored."""
    return plan_training(config, put=False)


def run(config: TrainConfig) -> TrainReport:
    """Run the training that `config` describes, or go on with it.

    Raises DataError, ConfigError, DivergenceError, and Ray's TrainingFailedError if workers keep dying.
    """
    plan = plan_training(config)
    if plan.finished is not None and plan.finished.covers(plan.job):
        restore_model(plan.model_name(plan.finished.steps), plan.model, plan.store)
        return TrainReport(plan, plan.finished, was_finished=True)
    with held_alone(plan.folder, f"training {plan.name}"):
        data = training_set(plan.store, plan.job.snapshot, config.temporal)
        data.index(config.temporal.window_frames)
        with started(plan.job.store, [plan.job.generator_sha256], config.machines):
            return TrainReport(plan, _train(plan), was_finished=False)


def _train(plan: TrainingPlan) -> Finished:
    run, snapshot = RemoteRun(start_journal(), plan.run), plan.job.snapshot
    log_settings(run, plan.config)
    run.log_input(snapshot.name, snapshot.digest, plan.job.store)
    run.link({"inversion": snapshot.inversion_id, "snapshot": snapshot.digest})
    run.set_tags({"training": plan.job.id, "subject": snapshot.clips[0].subject, "checkpoints": plan.folder})
    with run:
        gpu = use_gpu(plan.config)
        beginning = _show_beginning(plan, run, gpu)
        with training_progress(run, plan.job):
            result = cast(Result, run_trainer(_trainer(plan, run, gpu)))
        ray.wait([beginning])
        return _finish(plan, result, run)


def _show_beginning(plan: TrainingPlan, run: RemoteRun, gpu: bool) -> ray.ObjectRef[None]:
    """Render the pictures of step 0 in a task beside the training."""
    options = _validation_options(plan.config, gpu) | {"max_calls": 1}  # its process ends and frees memory
    return ray.remote(**options)(Validator.show_beginning).remote(Validator(plan.job, run))


def _validation_options(config: TrainConfig, gpu: bool) -> dict[str, Any]:
    """Validation asks for no CPU: it must find a place while the workers hold all of them."""
    gpus = VALIDATION_GPUS if gpu else 0
    return {"num_cpus": 0, "num_gpus": gpus, "label_selector": label_selector(config.machines)}


def _trainer(plan: TrainingPlan, run: RemoteRun, gpu: bool) -> TorchTrainer:
    storage, path = filesystem(plan.checkpoints)
    return TorchTrainer(
        partial(train_worker, plan.job, run),
        # Counts of samples stay on the CPU, whichever device the networks are on.
        torch_config=TorchConfig("cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.config.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": plan.config.cpus_per_worker} | ({"GPU": WORKER_GPUS} if gpu else {}),
            label_selector=label_selector(plan.config.machines) or None,
        ),
        run_config=RunConfig(
            name=plan.name,
            storage_path=path,
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(KEPT_CHECKPOINTS),
            logging_config=LoggingConfig("ERROR"),
        ),
        validation_config=ValidationConfig(
            Validator(plan.job, run), ray_remote_kwargs=_validation_options(plan.config, gpu)
        ),
    )


def _finish(plan: TrainingPlan, result: Result, run: RemoteRun) -> Finished:
    """Export the last checkpoint as a model: a folder, a name in the store, artifacts of the run."""
    outcome = cast(Outcome, result.return_value)
    if exploded := explosion_of(plan.folder):
        raise DivergenceError(exploded)
    if outcome.diverged:
        raise DivergenceError(f"{outcome.diverged} {_last_good(result)}")
    figures = next((m for _, m in result.best_checkpoints or () if m["step"] == outcome.steps), {})
    finished = Finished(
        outcome.steps,
        outcome.elapsed_s,
        {name: value for name, value in figures.items() if name != "step"},
    )
    snapshot, name = plan.job.snapshot, plan.model_name(finished.steps)
    export_model(cast(Checkpoint, result.checkpoint), name, plan.model, plan.store, snapshot, run)
    write_record(plan.folder, FINISHED, dataclasses.asdict(finished))
    return finished


def _last_good(result: Result) -> str:
    """A sentence on the last checkpoint of a training that diverged; checkpoints hold only finite values."""
    if result.checkpoint is None:
        return "There is no checkpoint from before that."
    step = (result.metrics or {})["step"]
    return (
        f"The last good checkpoint, of step {step:,}, is {result.checkpoint.path}; the same command with "
        f"--temporal.steps {step} makes a model of it."
    )
