"""Training of any family of models: new states, steps, and the table of families."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal import flow_training, gan
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.state import (
    MotionGenerator,
    TrainingState,
    check_finite,
    represent,
    restore,
)
from svgan_ray.temporal.workers import ALONE, Workers

__all__ = [
    "FAMILIES",
    "Family",
    "TrainingState",
    "build_generator",
    "check_finite",
    "new_state",
    "represent",
    "restore",
    "train_step",
]


class Family(NamedTuple):
    """A family of models: how its generator is built, and how its training begins."""

    build_generator: Callable[[TemporalConfig, int, int], MotionGenerator]
    new_state: Callable[
        [TemporalConfig, LatentBasis, torch.device | str, Workers, torch.dtype], TrainingState
    ]


FAMILIES = {
    "gan": Family(gan.build_generator, gan.new_state),
    "flow": Family(flow_training.build_generator, flow_training.new_state),
}
"""The families by their names in `TemporalConfig.family`. A new one is a module of its own and a row here."""


def build_generator(config: TemporalConfig, num_ws: int, w_dim: int) -> MotionGenerator:
    """The generator that `config` describes, for latents of [num_ws, w_dim]."""
    return FAMILIES[config.family].build_generator(config, num_ws, w_dim)


def new_state(
    config: TemporalConfig,
    basis: LatentBasis,
    device: torch.device | str = "cpu",
    workers: Workers = ALONE,
    dtype: torch.dtype = torch.float32,
) -> TrainingState:
    """A state before the first step; the weights are drawn from the config's seed, equal on every worker."""
    return FAMILIES[config.family].new_state(config, basis, device, workers, dtype)


def train_step(state: TrainingState, features: Tensor, index: WindowIndex) -> dict[str, Tensor]:
    """One step of all networks on this worker's slice of the global batch.

    features [frames, K or n * d] and index are the whole training set, on every worker. The returned losses
    are means over the global batch, scalars on the device; call `check_finite` on them regularly.
    """
    return state.train_step(features, index)
