"""One trial: a training in one process that is measured several times; Ray Tune stops it if it is worse."""

from __future__ import annotations

import tempfile
from typing import Any

import ray
import torch
from ray import tune

from svgan_ray.device import best_device
from svgan_ray.errors import DivergenceError
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.train.data import TrainingSet, training_set
from svgan_ray.orchestration.train.loop import LOG_EVERY_STEPS, Speed, check_weights
from svgan_ray.orchestration.train.validation import (
    DRIFT,
    FIDELITY,
    FRECHET,
    OBJECTIVE,
    WORST,
    generated_motion,
    measure,
    scores_of,
)
from svgan_ray.orchestration.tune.plan import StudyPlan
from svgan_ray.runs import Dataset
from svgan_ray.temporal.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.temporal.model import model_of
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.training import TrainingState, check_finite, new_state, train_step

__all__ = ["SEQUENCES", "run_trial"]

SEQUENCES = "sequences"
"""Training sequences seen so far: the clock of early stopping."""
_MEASURED = (OBJECTIVE, FRECHET, FIDELITY, DRIFT)


def run_trial(config: dict[str, Any], plan: StudyPlan) -> None:
    """Train `config["temporal"]` from the last checkpoint on; every report holds a finite objective."""
    temporal = TemporalConfig.from_dict(config["temporal"])
    trial_id = tune.get_context().get_trial_id()
    run = RemoteRun(ray.get_actor(plan.identity), plan.trial_run(trial_id))
    run.log_params({name: value for name, value in config.items() if name != "temporal"})
    data = training_set(plan.open_store(), plan.snapshot, temporal)
    device = best_device()
    state = _last_checkpoint(temporal, device) or new_state(temporal, data.basis.to(device), device)
    for rung in _remaining(plan, state):
        try:
            _advance(state, data, plan.steps_at(rung, temporal.batch_size), run)
        except DivergenceError as error:
            run.set_tags({"diverged": error})
            worst = dict.fromkeys(_MEASURED, WORST)
            tune.report({**worst, SEQUENCES: state.step * temporal.batch_size, "diverged": True})
            return
        _report(state, data, plan, run)


def _remaining(plan: StudyPlan, state: TrainingState) -> range:
    """The rungs that are still to be measured.

    A finished trial measures its last rung again, because Tune needs a report from each trial.
    """
    last = plan.config.rungs
    made = [n for n in range(1, last + 1) if plan.steps_at(n, state.config.batch_size) <= state.step]
    return range(min(len(made) + 1, last), last + 1)


def _advance(state: TrainingState, data: TrainingSet, steps: int, run: RemoteRun) -> None:
    """Train until `steps` steps are done. Raises DivergenceError."""
    device = state.device
    speed = Speed(run.key.name, state)
    features, index = data.features.to(device), data.index(state.config.window_frames)
    while state.step < steps:
        losses = train_step(state, features, index)
        if state.step % LOG_EVERY_STEPS == 1 or state.step == steps:
            check_finite(losses, state.step)
            metrics = {name: float(value) for name, value in losses.items()}
            metrics["sequences_per_s"] = speed.measure(state)
            run.log_metrics({f"train/{name}": value for name, value in metrics.items()}, state.step)
    check_weights(state)


def _report(state: TrainingState, data: TrainingSet, plan: StudyPlan, run: RemoteRun) -> None:
    model = model_of(state, data.basis.mean, plan.snapshot.generator_sha256)
    scores = scores_of(measure(model, data, generated_motion(model)))
    checkpoint = f"{run.key.name} step {state.step}"
    run.log_checkpoint(checkpoint, state.step, plan.folder)
    run.log_metrics(scores, state.step, checkpoint, Dataset(plan.snapshot.name, plan.snapshot.digest))
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(state, folder)
        result = {
            **{name: scores[name] for name in _MEASURED},
            SEQUENCES: state.step * state.config.batch_size,
            "diverged": False,
        }
        tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def _last_checkpoint(config: TemporalConfig, device: torch.device) -> TrainingState | None:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return load_checkpoint(folder, device, config=config)
