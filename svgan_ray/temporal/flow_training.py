"""The family `flow`: the training of a flow generator by conditional flow matching.

A window x_1 of footage and noise x_0 are mixed, x_t = (1 - t) x_0 + t x_1. The network estimates x_1 from
x_t, and the loss is the squared error of the velocity x_1 - x_0 that follows from the estimate (Lipman et
al., "Flow Matching for Generative Modeling", 2023, equation 23, without a smallest noise). In most windows
the first frames are given, as they are when motion is continued.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex, gather, seeded
from svgan_ray.temporal.flow import FlowGenerator
from svgan_ray.temporal.optimisers import optimiser_of, set_rate
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.recording import recorder_of
from svgan_ray.temporal.state import Losses, TrainingState, feature_count
from svgan_ray.temporal.workers import Workers

__all__ = ["FlowState", "build_generator", "new_state"]

_WARM_UP_STEPS = 50
_SMALLEST_REST = 0.1
"""Where less of the way is left than this, the error of the velocity does not count more."""
_LARGEST_GRADIENT = 1.0
_BETAS = (0.9, 0.99)
_WEIGHT_DECAY = 0.01


@dataclass(kw_only=True)
class FlowState(TrainingState):
    """Everything that the training of a flow generator changes."""

    generator: FlowGenerator
    ema: FlowGenerator
    optimiser: AdamW

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "ema": self.ema}

    def optimisers(self) -> dict[str, Adam]:
        return {"generator_optimiser": self.optimiser}

    def train_step(self, features: Tensor, index: WindowIndex) -> dict[str, Tensor]:
        config = self.config
        share = self.workers.slice(config.batch_size)
        starts = index.draw(config.seed, self.step, config.batch_size)[share]
        real = gather(features, starts, index.window)  # [N, T, F]
        drawn = (x[share].to(real) for x in _draw(config, self.step, real.shape[-1]))
        _set_rate(self)
        means = self.recorder.run("step", partial(_learn, self), real, *drawn)
        self._average()
        self.step += 1
        return {name: mean.clone() for name, mean in means.items()}

    def finished_generator(self) -> FlowGenerator:
        generator = build_generator(self.config, self.basis.num_ws, self.basis.w_dim)
        generator.load_state_dict(self.ema.state_dict())
        return generator.eval().requires_grad_(False)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average; at first quickly, so that it soon forgets the initial weights."""
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1 - decay)


def build_generator(config: TemporalConfig, num_ws: int, w_dim: int) -> FlowGenerator:
    """The generator that `config` describes, for latents of [num_ws, w_dim]."""
    return FlowGenerator(config.flow, feature_count(config, num_ws, w_dim), config.window_frames)


def new_state(
    config: TemporalConfig,
    basis: LatentBasis,
    device: torch.device | str,
    workers: Workers,
    dtype: torch.dtype,
) -> FlowState:
    """A state before the first step; see `training.new_state`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator = build_generator(config, basis.num_ws, basis.w_dim).to(device, dtype)
    return FlowState(
        config=config,
        basis=basis,
        workers=workers,
        generator=generator,
        ema=copy.deepcopy(generator).eval().requires_grad_(False),
        optimiser=optimiser_of(
            AdamW, generator, config.flow.learning_rate, _BETAS, weight_decay=_WEIGHT_DECAY
        ),
        recorder=recorder_of(device, workers),
    )


def _set_rate(state: FlowState) -> None:
    """The learning rate rises over the first steps, and then falls to zero along a cosine."""
    step, steps = state.step, state.config.steps
    share = min(1.0, (step + 1) / _WARM_UP_STEPS) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2
    set_rate(state.optimiser, share * state.config.flow.learning_rate)


def _draw(config: TemporalConfig, step: int, features: int) -> tuple[Tensor, ...]:
    """Noise [B, T, F], times [B], noise on the given frames [B, T, F], is_given [B, T], from (seed, step)."""
    random, options = seeded("flow", config.seed, step), config.flow
    batch, frames = config.batch_size, config.window_frames
    noise, on_given = torch.randn(2, batch, frames, features, generator=random)
    t = torch.sigmoid(torch.randn(batch, generator=random))
    continues = torch.rand(batch, generator=random) < options.given_share
    is_given = (torch.arange(frames) < options.given_frames) & continues[:, None]
    return noise, t, options.given_noise * on_given, is_given.float()


def _learn(
    state: FlowState, real: Tensor, noise: Tensor, t: Tensor, on_given: Tensor, is_given: Tensor
) -> Losses:
    """Run a step on the device; returns the loss over the global batch."""
    times, given = t[:, None, None], is_given[:, :, None]
    mixed = torch.lerp(noise, real, times)
    x = torch.where(given > 0, real + on_given, mixed)
    motion = state.generator.network(x, is_given, t)
    error = (motion - real).square().mean(2) / (1 - t).clamp(min=_SMALLEST_REST)[:, None].square()  # [N, T]
    moved = 1 - is_given
    losses = (error * moved).sum(1) / moved.sum(1)
    parameters = list(state.generator.parameters())
    gradients = torch.autograd.grad(losses.sum() / state.config.batch_size, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    state.workers.sum_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
    state.optimiser.step()
    return state.global_means({"velocity": losses})
