"""Fitting on Ray Train, fed by Ray Data: tracks -> crops (CPU tasks) -> workers -> fitted weights.

The same footage, weights and settings are the same fit. If it is run again, it goes on from its last
checkpoint, or reports that it is finished.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import ray
import ray.data
from ray.train import DataConfig, LoggingConfig
from ray.train.torch import TorchConfig
from rich.console import Group, RenderableType
from rich.table import Table

from svgan_ray.config import FitConfig
from svgan_ray.errors import DivergenceError
from svgan_ray.orchestration.fit.data import datasets_of, portions_for
from svgan_ray.orchestration.fit.export import export_weights, left_out_spans
from svgan_ray.orchestration.fit.footage import schedules_of
from svgan_ray.orchestration.fit.loop import SCORE, FittingJob, Outcome, fit_worker, places_of
from svgan_ray.orchestration.fit.plan import (
    FINISHED,
    SETTLED,
    Finished,
    FitPlan,
    Settled,
    plan_fit,
    step_time_s,
    steps_for,
    with_estimate,
)
from svgan_ray.orchestration.fit.progress import fit_progress
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
from svgan_ray.orchestration.runtime.start import started
from svgan_ray.orchestration.runtime.suggested import next_step
from svgan_ray.orchestration.runtime.terminal import print_line
from svgan_ray.orchestration.runtime.worker_groups import run_trainer, use_gpu
from svgan_ray.store import open_store
from svgan_ray.store.weights import local_weights, put_weights
from svgan_ray.stylegan.fitting import CONSENT, FittingConfig
from svgan_ray.stylegan.memory import require_memory
from svgan_ray.stylegan.weights import load_encoder, load_generator
from svgan_ray.temporal.workers import Workers

__all__ = ["FitReport", "plan", "run"]

MAX_FAILURES = 3
KEPT_CHECKPOINTS = 1
"""Ray keeps the best checkpoint by held-out score, and the latest one."""
_DB = ("image_db", "eyes_db", "mouth_db")


@dataclass(frozen=True)
class FitReport:
    """The result of a fit."""

    plan: FitPlan
    finished: Finished
    was_finished: bool

    exit_code = 0

    def __rich__(self) -> RenderableType:
        table, done, footage = Table(box=None, show_header=False), self.finished, self.plan.footage
        if self.was_finished:
            table.add_row("nothing to do", "this fit is finished; more --minutes or --steps would be another")
        for subject, training, held_out in zip(
            footage.subjects, footage.training, footage.held_out, strict=True
        ):
            table.add_row(
                "subject", f"{subject}: {training:,} frames fitted to, {held_out} held out and scored"
            )
        table.add_row(
            "steps", f"{done.steps:,} in {done.elapsed_s / 60:.1f} minutes, best at {done.best_step:,}"
        )
        for name in _DB:
            was, now = done.before[name], done.scores[name]
            table.add_row(f"held-out {name.removesuffix('_db')}", f"{now:.1f} dB (before {was:.1f})")
        for band in (1, 2):
            energy, coherence = done.scores[f"energy_{band}"], done.scores[f"coherence_{band}"]
            table.add_row(f"sharpness, octave {band}", f"energy {energy:.2f}, coherence {coherence:.2f}")
        spans = left_out_spans(self.plan.footage, done.left_out)
        left_out = f"{len(done.left_out):,} frames stand out" + (f": {'; '.join(spans[:3])}" if spans else "")
        table.add_row("left out", left_out + (f"; {len(spans) - 3} more spans" if len(spans) > 3 else ""))
        table.add_row("weights", self.plan.out)
        return Group(table, next_step("invert", weights=self.plan.out, store=self.plan.config.store))


def plan(config: FitConfig) -> FitPlan:
    """The plan of `run` and its expected duration; nothing is stored."""
    return with_estimate(plan_fit(config, put=False))


def run(config: FitConfig) -> FitReport:
    """Run the fit that `config` describes, or go on with it.

    Raises DataError, ConfigError, WeightsError, MachineError, DivergenceError, and Ray's TrainingFailedError
    if workers keep dying.
    """
    plan = plan_fit(config)
    print_line(CONSENT)
    if plan.finished is not None:
        export_weights(plan, plan.finished)
        return FitReport(plan, plan.finished, was_finished=True)
    for folder in plan.folders:
        put_weights(plan.store, folder)
    with held_alone(plan.folder, f"fit {plan.name}"), started(plan.store.uri, plan.hashes, config.machines):
        return FitReport(plan, _fit(plan), was_finished=False)


def _fit(plan: FitPlan) -> Finished:
    run = RemoteRun(start_journal(), plan.run)
    log_settings(run, plan.config)
    run.log_input(",".join(plan.footage.subjects), plan.digest, plan.store.uri)
    run.set_tags({"fit": plan.id, "subject": ",".join(plan.footage.subjects), "checkpoints": plan.folder})
    with run:
        gpu = use_gpu(plan.config)
        plan = _settled(plan, gpu)
        job = _job(plan)
        with fit_progress(run, job.config.steps) as tell:
            tell("decoding and cropping")
            datasets = _datasets(plan, job)
            tell("starting workers")
            result = cast(Result, run_trainer(_trainer(plan, job, run, datasets, gpu)))
        return _finish(plan, result, run)


def _settled(plan: FitPlan, gpu: bool) -> FitPlan:
    """The plan with the facts that are measured once: all workers time a step together, as in training."""
    if plan.settled is not None:
        return plan
    config = plan.config
    measure = ray.remote(**_resources(plan, gpu), max_calls=1)(_measured_step_s)
    images = -(-config.batch // config.workers)
    arguments = plan.store.uri, plan.hashes, plan.fitting(1), images, 0 if gpu else plan.memory_bytes
    step_s = max(ray.get([measure.remote(*arguments) for _ in range(config.workers)]))
    portions = portions_for(plan.footage_bytes, config.workers)
    settled = Settled(steps_for(plan, step_s), step_s, portions)
    write_record(plan.folder, SETTLED, dataclasses.asdict(settled))
    return dataclasses.replace(plan, settled=settled)


def _measured_step_s(
    store: str, hashes: tuple[str, str], config: FittingConfig, images: int, memory_bytes: int
) -> float:
    """The duration of a step here. Raises MachineError if there is not enough memory for it."""
    require_memory(memory_bytes, f"a step of {images} images")
    folders = [local_weights(open_store(store), sha256) for sha256 in hashes]
    return step_time_s(load_generator(folders[0]), load_encoder(folders[1]), config, images)


def _job(plan: FitPlan) -> FittingJob:
    config, settled = plan.config, plan.settled
    assert settled is not None
    schedules = schedules_of(plan.footage, config.batch, settled.portions, config.seed)
    return FittingJob(
        id=plan.id,
        config=plan.fitting(settled.steps),
        store=plan.store.uri,
        generator_sha256=plan.hashes[0],
        encoder_sha256=plan.hashes[1],
        schedule=schedules[0],
        held_out=schedules[1],
        counts=plan.footage.training,
        checkpoint_every_steps=config.checkpoint_every_steps,
        folder=plan.folder,
    )


def _datasets(plan: FitPlan, job: FittingJob) -> dict[str, ray.data.Dataset]:
    config = plan.config
    places = [places_of(Workers(rank, config.workers), config.batch) for rank in range(config.workers)]
    labels = label_selector(config.machines)
    schedules = job.schedule, job.held_out
    return datasets_of(plan.footage, schedules, places, plan.side, plan.store.uri, labels)


def _resources(plan: FitPlan, gpu: bool) -> dict[str, Any]:
    labels = label_selector(plan.config.machines)
    return {"num_cpus": plan.config.cpus_per_worker, "num_gpus": int(gpu), "label_selector": labels}


def _trainer(
    plan: FitPlan, job: FittingJob, run: RemoteRun, datasets: dict[str, Any], gpu: bool
) -> TorchTrainer:
    storage, path = filesystem(plan.checkpoints)
    options = ray.data.DataContext.get_current().execution_options
    return TorchTrainer(
        partial(fit_worker, job, run),
        torch_config=TorchConfig("cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.config.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": plan.config.cpus_per_worker} | ({"GPU": 1} if gpu else {}),
            label_selector=label_selector(plan.config.machines) or None,
        ),
        # Each worker has its own dataset, because the result depends on which worker gets which frames.
        datasets=datasets,
        dataset_config=DataConfig(datasets_to_split=[], execution_options=options),
        run_config=RunConfig(
            name=plan.name,
            storage_path=path,
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(KEPT_CHECKPOINTS, checkpoint_score_attribute="mean_db"),
            logging_config=LoggingConfig("ERROR"),
        ),
    )


def _finish(plan: FitPlan, result: Result, run: RemoteRun) -> Finished:
    """Export the best checkpoint as weights and log the result."""
    outcome = cast(Outcome, result.return_value)
    if outcome.diverged:
        raise DivergenceError(f"{outcome.diverged} The last checkpoints are in {plan.folder}.")
    kept = [metrics for _, metrics in result.best_checkpoints or ()]
    best = max(kept, key=lambda metrics: metrics["mean_db"])
    finished = Finished(
        steps=outcome.steps,
        elapsed_s=outcome.elapsed_s,
        best_step=best["step"],
        before=outcome.before,
        scores={name: value for name, value in best.items() if name != "step"},
        left_out=outcome.left_out,
    )
    sha256 = export_weights(plan, finished)
    run.link({"generator": sha256})
    spans = left_out_spans(plan.footage, finished.left_out)
    run.log_file("left_out.json", json.dumps(spans, indent=2).encode())
    run.log_metrics({SCORE: finished.scores["mean_db"]}, finished.steps)
    write_record(plan.folder, FINISHED, dataclasses.asdict(finished))
    return finished
