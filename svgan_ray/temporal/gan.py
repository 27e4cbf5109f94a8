"""The family `gan`: the state of a temporal GAN, and its training step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex, gather, seeded
from svgan_ray.temporal.critic import Critic
from svgan_ray.temporal.generator import GeneratorState, TemporalGenerator
from svgan_ray.temporal.losses import (
    gradient_angle_penalty,
    one_centred_penalty,
    relativistic_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
    zero_centred_penalty,
)
from svgan_ray.temporal.optimisers import optimiser_of, set_rate
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.recording import recorder_of
from svgan_ray.temporal.state import Losses, TrainingState, feature_count
from svgan_ray.temporal.statistics import HiddenChangeStatistics, MomentStatistics
from svgan_ray.temporal.workers import Workers, join

__all__ = ["GanState", "build_generator", "new_state"]

R = TypeVar("R")

_MEASURED_SAMPLES, _MEASURED_FRAMES = 128, 512
_MOST = 1.1
"""The largest correction; a generator that needs more has not learnt the motion, which must not be hidden."""


@dataclass(kw_only=True)
class GanState(TrainingState):
    """Everything that the training of a GAN changes."""

    generator: TemporalGenerator
    critic: Critic
    ema: TemporalGenerator
    hidden_change: HiddenChangeStatistics
    moments: MomentStatistics | None
    generator_optimiser: Adam
    critic_optimiser: Adam

    @cached_property
    def recurrent_parameters(self) -> list[nn.Parameter]:
        """The generator's parameters that the angle penalty depends on; they come first among all of them."""
        return [*self.generator.initial.parameters(), *self.generator.layers.parameters()]

    @cached_property
    def averaged(self) -> tuple[list[Tensor], list[Tensor]]:
        """The moving average's tensors and the generator's."""
        average, current = ([*m.parameters(), *m.buffers()] for m in (self.ema, self.generator))
        return average, current

    def modules(self) -> dict[str, nn.Module]:
        networks = {"generator": self.generator, "critic": self.critic, "ema": self.ema}
        return networks | {"change": self.hidden_change} | ({"moments": self.moments} if self.moments else {})

    def optimisers(self) -> dict[str, Adam]:
        return {
            "generator_optimiser": self.generator_optimiser,
            "critic_optimiser": self.critic_optimiser,
        }

    def train_step(self, features: Tensor, index: WindowIndex) -> dict[str, Tensor]:
        config = self.config
        if self.step == 0:
            _measure(self, features, index)
        _set_rates(self)
        share = self.workers.slice(config.batch_size)
        starts = index.draw(config.seed, self.step, config.batch_size)[share]
        real = gather(features, starts, index.window)  # [N, T, F]
        warm_up, noise, mix = (x[share].to(real) for x in _draw(config, self.step))
        before = _warmed_up(self, warm_up)
        due = _penalty_due(self), _angle_due(self)
        means = self.recorder.run(("step", *due), partial(_learn, self), real, noise, mix, *before)
        self.step += 1
        return {name: mean.clone() for name, mean in means.items()}

    def finished_generator(self) -> TemporalGenerator:
        """The averaged generator, in eval mode.

        A trained generator's motion is a few hundredths smaller than the footage's. Where training knows the
        footage's moments and the difference is small, the motion is scaled up to the footage's size.
        """
        generator = build_generator(self.config, self.basis.num_ws, self.basis.w_dim)
        generator.load_state_dict(self.ema.state_dict())
        generator.eval().requires_grad_(False)
        if self.moments is not None and self.step > 0:
            generator.amplify(_missing_amplitude(generator, self.config, self.moments))
        return generator


def build_generator(config: TemporalConfig, num_ws: int, w_dim: int) -> TemporalGenerator:
    """The generator that `config` describes, for latents of [num_ws, w_dim]."""
    if config.latent_space == "basis":
        return TemporalGenerator(config.generator, config.basis_size)
    return TemporalGenerator(config.generator, num_ws * w_dim, styles=num_ws)


def new_state(
    config: TemporalConfig,
    basis: LatentBasis,
    device: torch.device | str,
    workers: Workers,
    dtype: torch.dtype,
) -> GanState:
    """A state before the first step; see `training.new_state`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator = build_generator(config, basis.num_ws, basis.w_dim)
        features = feature_count(config, basis.num_ws, basis.w_dim)
        critic = Critic(config.critic, features, config.window_frames)
    generator, critic = generator.to(device, dtype), critic.to(device, dtype)
    moments = (
        MomentStatistics(features, config.window_frames) if config.loss.moment_matching_weight > 0 else None
    )
    join(generator, workers)
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    options = config.optimiser
    return GanState(
        config=config,
        basis=basis,
        workers=workers,
        generator=generator,
        critic=critic,
        ema=ema,
        hidden_change=HiddenChangeStatistics(config.generator.width).to(device, dtype),
        moments=moments.to(device, dtype) if moments else None,
        generator_optimiser=optimiser_of(Adam, generator, options.generator_learning_rate, options.betas),
        critic_optimiser=optimiser_of(Adam, critic, options.critic_learning_rate, options.betas),
        recorder=recorder_of(device, workers),
    )


def _learn(state: GanState, real: Tensor, noise: Tensor, mix: Tensor, *before: Tensor) -> Losses:
    """Run a step on the device; returns its losses. Generation starts from the state `before`, if given."""
    noise = noise.detach().requires_grad_(_angle_due(state))
    hidden, _ = state.generator.recur(noise, GeneratorState(*before) if before else None)
    angle = _in_background(state, _angle_losses, noise, hidden[:, -1] - hidden[:, 0])
    fake = state.generator.output(hidden)  # [N, T, F]
    real_observed, fake_observed = state.critic.observe(real), state.critic.observe(fake)

    penalty = _in_background(state, _penalty_losses, real_observed, fake_observed.detach(), mix)
    by_penalty = _in_background(state, _gradients, _parameters(state.critic_optimiser), penalty)
    by_angle = _in_background(state, _gradients, state.recurrent_parameters, angle)
    losses, real_scores = _critic_losses(state, real_observed, fake_observed.detach())
    _descend(state, state.critic_optimiser, losses, by_penalty)

    generator_losses = _generator_losses(state, fake, fake_observed, real_scores)
    _descend(state, state.generator_optimiser, generator_losses, by_angle)

    _update_average(state)
    return state.global_means(losses | penalty.result() | generator_losses | angle.result())


def _set_rates(state: GanState) -> None:
    options = state.config.optimiser
    share = options.rate_share(state.step, state.config.steps)
    set_rate(state.generator_optimiser, share * options.generator_learning_rate)
    set_rate(state.critic_optimiser, share * options.critic_learning_rate)


@torch.no_grad()
def _measure(state: GanState, coefficients: Tensor, index: WindowIndex) -> None:
    """Measure the statistics of the training set that the networks need before the first step."""
    for i, difference in enumerate(state.critic.differences):
        state.critic.scales[i] = difference.scale(coefficients, index)
    if state.moments:
        state.moments.measure(coefficients, index)


def _draw(config: TemporalConfig, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise before and in the window [B, warm-up or T, noise_dim], mixing weights [B], from (seed, step)."""
    random = seeded("noise", config.seed, step)
    batch, options = config.batch_size, config.generator
    mix = torch.rand(batch, generator=random)
    noise = torch.randn(batch, config.window_frames, options.noise_dim, generator=random)
    frames = options.warm_up_frames + int(torch.randint(options.warm_up_frames + 1, (), generator=random))
    return torch.randn(batch, frames, options.noise_dim, generator=random), noise, mix


@torch.no_grad()
def _warmed_up(state: GanState, noise: Tensor) -> tuple[Tensor, ...]:
    """The generator's state after noise [N, frames, noise_dim]; empty where there are no frames."""
    if not (frames := noise.shape[1]):
        return ()
    return state.recorder.run(("warm-up", frames), lambda given: state.generator.recur(given)[1], noise)


def _in_background(state: GanState, work: Callable[..., R], *given: Any) -> Future[R]:
    """Submit `work`, with futures among its arguments replaced by their results; calls run in order."""
    return state.background.submit(
        lambda: work(state, *(x.result() if isinstance(x, Future) else x for x in given))
    )


def _critic_losses(state: GanState, real: Tensor, fake: Tensor) -> tuple[Losses, Tensor]:
    """The critic's losses on observed windows [N, T, C], and its scores of the real windows."""
    real_scores, fake_scores = state.critic.score(torch.cat([real, fake])).chunk(2)
    relativistic = state.config.loss.adversarial == "relativistic"
    loss = relativistic_loss if relativistic else wasserstein_critic_loss
    return {"critic": loss(real_scores, fake_scores)}, real_scores.detach()


def _penalty_losses(state: GanState, real: Tensor, fake: Tensor, mix: Tensor) -> Losses:
    """The penalty on the critic's gradient at observed windows [N, T, C], with its weight, if it is due.

    With the Wasserstein loss it is the one-centred gradient penalty, with relativistic losses R1 + R2. Its
    key, which is also the name of the metric, is the same for both.
    """
    slopes, options = state.critic.slopes, state.config.loss
    if not _penalty_due(state):
        return {}
    if options.adversarial == "relativistic":
        penalty = zero_centred_penalty(slopes(real)) + zero_centred_penalty(slopes(fake))
    else:
        penalty = one_centred_penalty(slopes(torch.lerp(real, fake, mix[:, None, None])))
    return {"gradient_penalty": options.critic_penalty_weight * options.critic_penalty_interval * penalty}


def _penalty_due(state: GanState) -> bool:
    return state.step % state.config.loss.critic_penalty_interval == 0


def _angle_due(state: GanState) -> bool:
    options = state.config.loss
    return options.angle_penalty_weight > 0 and state.step % options.angle_penalty_interval == 0


def _angle_losses(state: GanState, noise: Tensor, change: Tensor) -> Losses:
    """The gradient angle penalty of the hidden state's change over a window [N, width], if it is due."""
    if not _angle_due(state):
        return {}
    options, statistics = state.config.loss, state.hidden_change
    statistics.update(change.detach(), state.workers)
    penalty = gradient_angle_penalty(noise, change, statistics.mean, statistics.std)
    return {"angle_penalty": options.angle_penalty_weight * options.angle_penalty_interval * penalty}


def _generator_losses(state: GanState, fake: Tensor, observed: Tensor, real_scores: Tensor) -> Losses:
    """The losses of generated windows [N, T, F] and of their observation.

    `real_scores` are the critic's scores of the real windows before the critic's own step.
    """
    scores, options = state.critic.score(observed), state.config.loss
    relativistic = options.adversarial == "relativistic"
    loss = relativistic_loss(scores, real_scores) if relativistic else wasserstein_generator_loss(scores)
    losses = {"generator": loss}
    if state.moments:
        mismatch = options.moment_matching_weight * state.moments.mismatch(fake, state.workers)
        losses["moment_matching"] = mismatch.expand(len(fake))
    return losses


def _gradients(state: GanState, parameters: list[nn.Parameter], losses: Losses) -> list[Tensor]:
    """This worker's part of the gradients of the sum of all losses, as a mean over the global batch.

    The list is empty if there are no losses.
    """
    if not losses:
        return []
    total = torch.stack([loss.sum() for loss in losses.values()]).sum() / state.config.batch_size
    return list(torch.autograd.grad(total, parameters, retain_graph=True, materialize_grads=True))


def _parameters(optimiser: Adam) -> list[nn.Parameter]:
    parameters: list[nn.Parameter] = optimiser.param_groups[0]["params"]
    return parameters


def _descend(state: GanState, optimiser: Adam, losses: Losses, more: Future[list[Tensor]]) -> None:
    """One optimiser step along the losses' gradients, which are summed over all workers.

    `more` holds additional gradients of the first parameters; it may be empty.
    """
    parameters = _parameters(optimiser)
    gradients, others = _gradients(state, parameters, losses), more.result()
    if others:
        torch._foreach_add_(gradients[: len(others)], others)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    state.workers.sum_gradients(parameters)
    optimiser.step()


@torch.no_grad()
def _update_average(state: GanState) -> None:
    average, current = state.averaged
    torch._foreach_lerp_(average, current, 1 - state.config.ema_decay)


@torch.no_grad()
def _missing_amplitude(
    generator: TemporalGenerator, config: TemporalConfig, moments: MomentStatistics
) -> float:
    """The factor that gives the motion the footage's variance, taken over all coefficients together."""
    random, options = seeded("amplitude", config.seed), config.generator
    noise = torch.randn(_MEASURED_SAMPLES, _MEASURED_FRAMES, options.noise_dim, generator=random)
    motion, _ = generator(noise)
    variance = motion[:, options.warm_up_frames :].flatten(0, 1).var(0).sum()
    return float((moments.footage_variance.sum().cpu() / variance).sqrt().clamp(1 / _MOST, _MOST))
