"""One training step of the temporal GAN, and the state that it changes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svgan_ray.errors import DivergenceError
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex, gather, seeded
from svgan_ray.temporal.critic import Critic
from svgan_ray.temporal.generator import TemporalGenerator
from svgan_ray.temporal.losses import (
    gradient_angle_penalty,
    gradient_penalty,
    relativistic_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
    zero_centred_penalty,
)
from svgan_ray.temporal.recipes import OptimiserOptions, TemporalConfig
from svgan_ray.temporal.workers import ALONE, Workers, join

__all__ = [
    "ChangeStatistics",
    "TrainingState",
    "build_generator",
    "check_finite",
    "new_state",
    "represent",
    "restore",
    "train_step",
]

CHANGE_DECAY = 0.995


class ChangeStatistics(nn.Module):
    """Running mean and standard deviation of Delta = l_(T-1) - l_0, over the batches of all workers."""

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, change: Tensor, workers: Workers) -> None:
        """Take in a batch of Delta [N, width]; the first batches count as in a plain average."""
        count = workers.count(len(change))
        mean = workers.sum(change.sum(0)) / count
        variance = workers.sum((change - mean).square().sum(0)) / count
        self.updates += 1
        share = (1.0 / self.updates).clamp(min=1 - CHANGE_DECAY).to(change.dtype)
        self.mean.lerp_(mean, share)
        self.variance.lerp_(variance, share)

    @property
    def std(self) -> Tensor:
        return (self.variance + 1e-8).sqrt()


@dataclass
class TrainingState:
    """All that training changes; noise and windows are functions of (seed, step), so no random state is in it."""

    config: TemporalConfig
    basis: LatentBasis
    workers: Workers
    step: int
    generator: TemporalGenerator
    critic: Critic
    ema: TemporalGenerator
    change: ChangeStatistics
    generator_optimiser: torch.optim.Adam
    critic_optimiser: torch.optim.Adam

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic, "ema": self.ema, "change": self.change}

    def optimisers(self) -> dict[str, torch.optim.Adam]:
        return {
            "generator_optimiser": self.generator_optimiser,
            "critic_optimiser": self.critic_optimiser,
        }


def build_generator(config: TemporalConfig, num_ws: int, w_dim: int) -> TemporalGenerator:
    """The generator that `config` describes, for latents of [num_ws, w_dim]."""
    if config.head == "basis":
        return TemporalGenerator(config.generator, config.basis_size)
    return TemporalGenerator(config.generator, num_ws * w_dim, styles=num_ws)


def represent(config: TemporalConfig, basis: LatentBasis, w_plus: Tensor) -> Tensor:
    """What the networks see of W+ [..., n, d]: coefficients [..., K] or style values [..., n * d]."""
    return basis.project(w_plus) if config.head == "basis" else w_plus.flatten(-2)


def restore(config: TemporalConfig, basis: LatentBasis, features: Tensor) -> Tensor:
    """The inverse of `represent`: [..., K] or [..., n * d] to W+ [..., n, d]."""
    if config.head == "basis":
        return basis.reconstruct(features)
    return features.unflatten(-1, (basis.num_ws, basis.w_dim))


def new_state(
    config: TemporalConfig,
    basis: LatentBasis,
    device: torch.device | str = "cpu",
    workers: Workers = ALONE,
    dtype: torch.dtype = torch.float32,
) -> TrainingState:
    """Networks with weights drawn from the config's seed, equal on every worker."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator = build_generator(config, basis.num_ws, basis.w_dim)
        features = config.basis_size if config.head == "basis" else basis.num_ws * basis.w_dim
        critic = Critic(config.critic, features, config.window_frames)
    generator, critic = generator.to(device, dtype), critic.to(device, dtype)
    join(generator, workers)
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    options = config.optimiser
    return TrainingState(
        config=config,
        basis=basis,
        workers=workers,
        step=0,
        generator=generator,
        critic=critic,
        ema=ema,
        change=ChangeStatistics(config.generator.width).to(device, dtype),
        generator_optimiser=_adam(generator, options.generator_learning_rate, options),
        critic_optimiser=_adam(critic, options.critic_learning_rate, options),
    )


def _adam(module: nn.Module, learning_rate: float, options: OptimiserOptions) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=options.betas, fused=True)


def train_step(state: TrainingState, coefficients: Tensor, index: WindowIndex) -> dict[str, Tensor]:
    """One step of the critic and one of the generator on this worker's slice of the global batch.

    coefficients [F, K or n * d] and index are the whole training set, on every worker. The returned losses
    are means over the global batch, scalars on the device; call `check_finite` on them now and then.
    """
    config = state.config
    share = state.workers.slice(config.batch_size)
    starts = index.draw(config.seed, state.step, config.batch_size)[share]
    real = gather(coefficients, starts, index.window)  # [N, T, F]
    noise, mix = (x[share].to(real) for x in _draw_noise(config, state.step))
    losses: dict[str, Tensor] = {}

    angle_due = config.loss.angle_penalty > 0 and state.step % config.loss.angle_penalty_interval == 0
    hidden, _ = state.generator.recur(noise.requires_grad_(angle_due))
    fake = state.generator.head(hidden)  # [N, T, F]

    losses |= _critic_losses(state, real, fake.detach(), mix)
    _descend(state.critic_optimiser, losses, state)

    generator_losses = _generator_losses(state, real, fake)
    if angle_due:
        generator_losses["angle_penalty"] = _angle_loss(state, noise, hidden[:, -1] - hidden[:, 0])
    _descend(state.generator_optimiser, generator_losses, state)

    _update_average(state)
    state.step += 1
    return _global_means(state, losses | generator_losses)


def _draw_noise(config: TemporalConfig, step: int) -> tuple[Tensor, Tensor]:
    """Noise [B, T, noise_dim] and mixing weights [B] of the global batch, functions of (seed, step)."""
    random = seeded("noise", config.seed, step)
    shape = (config.batch_size, config.window_frames, config.generator.noise_dim)
    return torch.randn(shape, generator=random), torch.rand(config.batch_size, generator=random)


def _critic_losses(state: TrainingState, real: Tensor, fake: Tensor, mix: Tensor) -> dict[str, Tensor]:
    critic, options = state.critic, state.config.loss
    real_scores, fake_scores = critic(torch.cat([real, fake])).chunk(2)
    due = state.step % options.gradient_penalty_interval == 0
    weight = options.gradient_penalty * options.gradient_penalty_interval
    losses = {}
    if options.adversarial == "wasserstein":
        losses["critic"] = wasserstein_critic_loss(real_scores, fake_scores)
        if due:
            losses["gradient_penalty"] = weight * gradient_penalty(critic, real, fake, mix)
    else:
        losses["critic"] = relativistic_loss(real_scores, fake_scores)
        if due:
            both = zero_centred_penalty(critic, torch.cat([real, fake])).chunk(2)
            losses["gradient_penalty"] = weight * (both[0] + both[1])
    return losses


def _generator_losses(state: TrainingState, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    if state.config.loss.adversarial == "wasserstein":
        return {"generator": wasserstein_generator_loss(state.critic(fake))}
    with torch.no_grad():
        real_scores = state.critic(real)
    return {"generator": relativistic_loss(state.critic(fake), real_scores)}


def _angle_loss(state: TrainingState, noise: Tensor, change: Tensor) -> Tensor:
    options, statistics = state.config.loss, state.change
    statistics.update(change.detach(), state.workers)
    penalty = gradient_angle_penalty(noise, change, statistics.mean, statistics.std)
    return options.angle_penalty * options.angle_penalty_interval * penalty


def _descend(optimiser: torch.optim.Adam, losses: Mapping[str, Tensor], state: TrainingState) -> None:
    """One step down the global batch's mean of the summed losses, each [N]."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    total = torch.stack([loss.sum() for loss in losses.values()]).sum() / state.config.batch_size
    for parameter, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
        parameter.grad = gradient
    state.workers.sum_gradients(parameters)
    optimiser.step()


@torch.no_grad()
def _update_average(state: TrainingState) -> None:
    average, current = (list(m.state_dict().values()) for m in (state.ema, state.generator))
    torch._foreach_lerp_(average, current, 1 - state.config.ema_decay)


@torch.no_grad()
def _global_means(state: TrainingState, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sums = state.workers.sum(torch.stack([loss.detach().sum() for loss in losses.values()]))
    return dict(zip(losses, (sums / state.config.batch_size).unbind(), strict=True))


def check_finite(losses: Mapping[str, Tensor], step: int) -> None:
    """Raise DivergenceError if a loss is not finite."""
    for name, value in losses.items():
        if not math.isfinite(float(value)):
            raise DivergenceError(
                f"the loss {name!r} is {float(value)} at step {step}: training diverged. "
                "Go on from the last good checkpoint with a lower learning rate or another seed."
            )
