"""The loop of each worker of a training: steps, curves, checkpoints, until steps or minutes are used up.

Noise and windows are functions of (seed, step), and a checkpoint holds everything else. So a training that
was killed and resumed is bit-equal to one that was not.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from torch import Tensor

from svgan_ray.errors import DivergenceError
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.runtime.telemetry import training_speed
from svgan_ray.orchestration.runtime.worker_groups import Uploader, make_process_deterministic, worker_group
from svgan_ray.orchestration.train.checkpoints import explosion_of
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.store import Snapshot, open_store
from svgan_ray.temporal.background import background_executor
from svgan_ray.temporal.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.training import TrainingState, check_finite, new_state, train_step
from svgan_ray.temporal.workers import Workers

__all__ = ["LOG_EVERY_STEPS", "Outcome", "Speed", "TrainingJob", "check_weights", "train_worker"]

LOG_EVERY_STEPS = 20
_CLOCK = "clock.json"
_REMEDY = "Train with a lower learning rate or another seed."


@dataclass(frozen=True)
class TrainingJob:
    """The settings of a training that every worker needs."""

    id: str
    config: TemporalConfig
    budget_s: float | None
    store: str
    snapshot: Snapshot
    generator_sha256: str
    checkpoint_every_steps: int
    sample_every_steps: int
    sample_seconds: float
    folder: str
    """The folder of its checkpoints."""


@dataclass(frozen=True)
class Outcome:
    """The progress of a training over all its runs; `diverged` tells why it cannot go on."""

    steps: int
    elapsed_s: float
    diverged: str = ""


class Clock:
    """Time spent training, over all runs of one training."""

    def __init__(self, before_s: float = 0.0) -> None:
        self._began_s = time.monotonic() - before_s

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s


def train_worker(job: TrainingJob, run: RemoteRun) -> Outcome:
    """Train from the last registered checkpoint on; every worker of the group runs this."""
    make_process_deterministic()
    device, workers = ray.train.torch.get_device(), worker_group()
    data = training_set(open_store(job.store), job.snapshot, job.config)
    features, index = data.features.to(device), data.index(job.config.window_frames)
    state, clock = _last_checkpoint(job, device, workers) or (
        new_state(job.config, data.basis.to(device), device, workers),
        Clock(),
    )
    with background_executor(job.config, device, workers) as state.background:
        return _train(job, run, state, clock, features, index)


def _train(
    job: TrainingJob,
    run: RemoteRun,
    state: TrainingState,
    clock: Clock,
    features: Tensor,
    index: WindowIndex,
) -> Outcome:
    """Train, log and write checkpoints until steps or minutes are used up, or the training diverges."""
    speed = Speed(run.key.name, state)
    is_over = _is_over(job, state, clock)
    try:
        while not is_over:
            losses = train_step(state, features, index)
            is_over = _is_over(job, state, clock)
            if state.step % LOG_EVERY_STEPS == 1 or is_over:
                check_finite(losses, state.step)
                pace = {"sequences_per_s": speed.measure(state), "minutes": clock.elapsed_s / 60}
                _log(run, state, {**losses, **pace})
            if is_over or any(
                state.step % n == 0 for n in (job.checkpoint_every_steps, job.sample_every_steps)
            ):
                check_weights(state)
                _report(job, state, clock, validate=is_over or state.step % job.sample_every_steps == 0)
                _check_validated(job, state)
    except DivergenceError as error:  # the same on all workers: the losses are global means
        return Outcome(state.step, clock.elapsed_s, str(error))
    return Outcome(state.step, clock.elapsed_s)


class Speed:
    """Measures sequences per second since the last measurement, and exports them to Prometheus."""

    def __init__(self, run: str, state: TrainingState) -> None:
        self._run, self._step, self._time_s = run, state.step, time.monotonic()

    def measure(self, state: TrainingState) -> float:
        sequences = (state.step - self._step) * state.config.batch_size
        elapsed_s = time.monotonic() - self._time_s
        self._step, self._time_s = state.step, time.monotonic()
        if state.workers.rank == 0:  # the batch is that of all workers together
            training_speed(self._run, sequences / elapsed_s)
        return sequences / elapsed_s


def check_weights(state: TrainingState) -> None:
    """Raise DivergenceError if a weight or an optimiser's moment of its gradients is not finite.

    Such a checkpoint must not be written. If the square of a gradient overflows float32, Adam's moment stays
    infinite: the weight stays finite but never changes again.
    """
    for owner, optimiser in state.optimisers().items():
        for memory in optimiser.state.values():
            if not all(bool(torch.isfinite(moment).all()) for moment in memory.values()):
                raise DivergenceError(
                    f"a gradient of the {owner.removesuffix('_optimiser')} was not finite, or its square was "
                    f"not, up to step {state.step}: training diverged. {_REMEDY}"
                )
    for owner, module in state.modules().items():
        for name, parameter in module.state_dict().items():
            if not bool(torch.isfinite(parameter).all()):
                raise DivergenceError(
                    f"the {owner}'s {name} is not finite at step {state.step}: training diverged. {_REMEDY}"
                )


def _last_checkpoint(
    job: TrainingJob, device: torch.device, workers: Workers
) -> tuple[TrainingState, Clock] | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state = load_checkpoint(folder, device, workers, job.config)
        clock = json.loads(Path(folder, _CLOCK).read_text())
    return state, Clock(clock["elapsed_s"])


def _is_over(job: TrainingJob, state: TrainingState, clock: Clock) -> bool:
    """Whether steps or minutes are used up; the workers agree on the first one's clock."""
    if state.step >= job.config.steps:
        return True
    if job.budget_s is None or state.step % LOG_EVERY_STEPS:
        return False
    is_late = state.workers.rank == 0 and clock.elapsed_s >= job.budget_s
    return state.workers.count(int(is_late)) > 0


def _log(run: RemoteRun, state: TrainingState, values: Mapping[str, Tensor | float]) -> None:
    if state.workers.rank == 0:
        run.log_metrics({f"train/{name}": float(value) for name, value in values.items()}, state.step)


def _report(job: TrainingJob, state: TrainingState, clock: Clock, validate: bool) -> None:
    """Report a checkpoint to Ray, which uploads it while the training goes on, and then validates it."""
    values, checkpoint = {"step": state.step}, None
    if state.workers.rank == 0:
        folder = tempfile.mkdtemp(prefix="checkpoint-")  # Ray removes it after the upload
        save_checkpoint(state, folder)
        Path(folder, _CLOCK).write_text(json.dumps({"elapsed_s": clock.elapsed_s}))
        checkpoint = Checkpoint.from_directory(folder)
    ray.train.report(
        values,
        checkpoint,
        checkpoint_dir_name=f"step-{state.step:08d}",
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        checkpoint_upload_fn=Uploader(job.folder),
        validation=validate and checkpoint is not None,
    )


def _check_validated(job: TrainingJob, state: TrainingState) -> None:
    """Raise DivergenceError if a validation found that the motion exploded; all workers follow the first."""
    exploded = explosion_of(job.folder) if state.workers.rank == 0 else ""
    if state.workers.count(int(bool(exploded))):
        raise DivergenceError(exploded or explosion_of(job.folder))
