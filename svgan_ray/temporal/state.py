"""What the training states of all families have in common, and how W+ becomes the networks' features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from svgan_ray.errors import DivergenceError
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.background import InlineExecutor
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.recording import OneByOne
from svgan_ray.temporal.workers import Workers

__all__ = [
    "Losses",
    "MotionGenerator",
    "TrainingState",
    "check_finite",
    "feature_count",
    "represent",
    "restore",
]

Losses = dict[str, Tensor]  # [N] each


class MotionGenerator(nn.Module, ABC):
    """A network that turns noise into endless motion.

    noise_dim   size of the noise vector of a frame
    """

    noise_dim: int

    @abstractmethod
    def stream(self, noise_from: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
        """Features [N, t, F], block after block, from frame 0 on.

        `noise_from(start, count)` gives noise [N, count, noise_dim] of the frames from `start` on; frames
        before 0 warm up. Blocks follow each other without a gap, and their sizes do not depend on what is
        asked for, because matrix products of different sizes round differently.
        """


@dataclass(kw_only=True)
class TrainingState(ABC):
    """Everything that training changes; noise and windows are functions of (seed, step), not state.

    A family of models adds its networks and optimisers, and implements the methods.
    """

    config: TemporalConfig
    basis: LatentBasis
    workers: Workers
    step: int = 0
    background: Executor = field(default_factory=InlineExecutor)
    """Computes the parts of a step that do not depend on the rest of it."""
    recorder: OneByOne = field(default_factory=OneByOne)
    """Launches the operations of a step on the device."""

    @property
    def device(self) -> torch.device:
        return self.basis.mean.device

    @torch.no_grad()
    def global_means(self, losses: Losses) -> dict[str, Tensor]:
        """The means over the global batch of this worker's losses and those of all others, scalars."""
        sums = self.workers.sum(torch.stack([loss.detach().sum() for loss in losses.values()]))
        return dict(zip(losses, (sums / self.config.batch_size).unbind(), strict=True))

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """All modules whose tensors a checkpoint holds."""

    @abstractmethod
    def optimisers(self) -> dict[str, torch.optim.Adam]:
        """All optimisers whose moments a checkpoint holds."""

    @abstractmethod
    def train_step(self, features: Tensor, index: WindowIndex) -> dict[str, Tensor]:
        """One step on this worker's slice of the global batch; see `training.train_step`."""

    @abstractmethod
    def finished_generator(self) -> MotionGenerator:
        """A copy of the averaged generator on the CPU, in eval mode and without gradients."""


def feature_count(config: TemporalConfig, num_ws: int, w_dim: int) -> int:
    """F, the size of a frame for the networks."""
    return config.basis_size if config.latent_space == "basis" else num_ws * w_dim


def represent(config: TemporalConfig, basis: LatentBasis, w_plus: Tensor) -> Tensor:
    """W+ [..., n, d] as the networks use it: coefficients [..., K] or style values [..., n * d]."""
    if config.latent_space == "basis":
        return basis.project(w_plus)
    return w_plus.flatten(-2)


def restore(config: TemporalConfig, basis: LatentBasis, features: Tensor) -> Tensor:
    """The inverse of `represent`: [..., K] or [..., n * d] to W+ [..., n, d]."""
    if config.latent_space == "basis":
        return basis.reconstruct(features)
    w_plus: Tensor = features.unflatten(-1, (basis.num_ws, basis.w_dim))
    return w_plus


def check_finite(losses: Mapping[str, Tensor], step: int) -> None:
    """Raise DivergenceError if a loss is not finite."""
    for name, value in losses.items():
        if not math.isfinite(float(value)):
            raise DivergenceError(
                f"the loss {name!r} is {float(value)} at step {step}: training diverged. "
                "Train with a lower learning rate or another seed."
            )
