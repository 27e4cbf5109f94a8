"""The options of the temporal GAN, and the recipes that set them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from svgan_ray.decoding import DecodingError, decode
from svgan_ray.errors import ConfigError
from svgan_ray.former_names import reads_former_names, under_former_names
from svgan_ray.ranges import above, at_least, check_ranges, from_to, from_to_below

__all__ = [
    "RECIPES",
    "CriticOptions",
    "FlowOptions",
    "GeneratorOptions",
    "LossOptions",
    "OptimiserOptions",
    "TemporalConfig",
    "demo",
    "faces_1024",
    "paper",
]


@reads_former_names
@dataclass(frozen=True)
class GeneratorOptions:
    """The recurrent generator."""

    noise_dim: Annotated[int, at_least(1)] = 32
    """Size of the noise vector of a frame."""
    layers: Annotated[int, at_least(1)] = 4
    """GRU layers."""
    width: Annotated[int, at_least(1)] = 32
    """Hidden units of a GRU layer."""
    initial_widths: Annotated[tuple[int, ...], at_least(1)] = (64, 64, 96)
    """Hidden layers of the MLP that maps the first noise vector to the initial hidden states."""
    output_widths: Annotated[tuple[int, ...], at_least(1)] = (64, 128, 256, 512)
    """Hidden layers of the MLP that maps the top hidden state to a frame's latents."""
    normalise: bool = True
    """Batch normalisation and pixel norm, as published."""
    slowest_noise_frames: Annotated[float, at_least(0)] = 0.0
    """Half of the noise is smoothed with time constants up to this, so that the generator need not learn slow
    motion as a sum of fast noise; with 0 all noise is white, as published."""
    warm_up_frames: Annotated[int, at_least(0)] = 0
    """The generator runs this many frames before a sample, and one to two times as many before a training
    window. So training sees the same states as long samples reach, and long samples do not drift."""


@dataclass(frozen=True)
class CriticOptions:
    """The critic of windows."""

    frame_widths: Annotated[tuple[int, ...], at_least(1)] = (256, 128, 32)
    """MLP applied to each frame."""
    time_widths: Annotated[tuple[int, ...], at_least(1)] = (64, 128)
    """Convolutions over time (kernel 5, stride 2)."""
    lags: Annotated[tuple[int, ...], at_least(1)] = ()
    """The critic also sees the differences x_t - x_(t - lag), each in units of its standard deviation."""
    orders: Annotated[tuple[int, ...], at_least(1)] = ()
    """The critic also sees differences of neighbouring frames of these orders; 2 is the difference of
    differences. They show jitter that is hidden in first differences by slow motion."""
    pooled: bool = False
    """Average over time before the score, so that it does not matter where in a window something happens."""


@reads_former_names
@dataclass(frozen=True)
class LossOptions:
    """Losses and penalties. An interval of k applies a penalty at every k-th step, k times as strong."""

    adversarial: Literal["wasserstein", "relativistic"] = "wasserstein"
    """Wasserstein with a one-centred penalty between real and fake, or relativistic pairs with zero-centred
    penalties on both (R1 + R2)."""
    critic_penalty_weight: Annotated[float, at_least(0)] = 50.0
    """Weight of the penalty on the critic's gradient, which keeps the critic smooth. With `wasserstein` it is
    the one-centred penalty (published with 50), with `relativistic` it is R1 + R2; 0 leaves it out."""
    critic_penalty_interval: Annotated[int, at_least(1)] = 1
    """Steps from one application of that penalty to the next; 1 applies it at every step, as published."""
    angle_penalty_weight: Annotated[float, at_least(0)] = 100.0
    """Weight of the gradient angle penalty, which keeps the first noise vector from deciding the whole motion
    (published with 100); 0 leaves it out."""
    angle_penalty_interval: Annotated[int, at_least(1)] = 1
    """Steps from one application of the gradient angle penalty to the next; 1 applies it at every step, as
    published."""
    moment_matching_weight: Annotated[float, at_least(0)] = 0.0
    """Weight of the loss that matches the covariances of values and differences to the footage's (only in
    the latent space `basis`)."""


@dataclass(frozen=True)
class OptimiserOptions:
    """Adam for both networks."""

    generator_learning_rate: Annotated[float, above(0)] = 1e-4
    """Learning rate of the generator."""
    critic_learning_rate: Annotated[float, above(0)] = 1e-4
    """Learning rate of the critic."""
    betas: Annotated[tuple[float, float], from_to_below(0, 1)] = (0.5, 0.999)
    """Adam's decay rates of the means of the gradients and of their squares."""
    cool_down: Annotated[float, from_to(0, 1)] = 0.0
    """Share of the steps, the last ones, over which both learning rates fall linearly to zero."""

    def rate_share(self, step: int, steps: int) -> float:
        """The share of the learning rates that is applied at `step` of `steps`, from 1 down to 0."""
        left = max(steps - step, 0)
        return min(1.0, left / (self.cool_down * steps)) if self.cool_down > 0 else 1.0


@dataclass(frozen=True)
class FlowOptions:
    """The network of the family `flow`, which learns by flow matching, and its training."""

    width: Annotated[int, at_least(1)] = 128
    """Channels of a block."""
    blocks: Annotated[int, at_least(1)] = 10
    """Gated convolutions over time, with dilations of 1, 2, 4, 8, 16, 1, ..."""
    given_frames: Annotated[int, at_least(1)] = 24
    """Frames at the start of a window that are given, when motion is continued."""
    given_share: Annotated[float, from_to(0, 1)] = 0.9
    """Share of the training windows whose first frames are given; a sample starts without any."""
    given_noise: Annotated[float, at_least(0)] = 0.02
    """Noise on the given frames, in standard deviations, so that small errors do not grow from block to
    block."""
    solver_steps: Annotated[int, at_least(1)] = 12
    """Midpoint steps from noise to motion."""
    learning_rate: Annotated[float, above(0)] = 2e-3
    """Highest learning rate of AdamW; it falls to zero along a cosine."""


@reads_former_names
@dataclass(frozen=True)
class TemporalConfig:
    """Everything that defines a temporal model and its training."""

    family: Literal["gan", "flow"] = "gan"
    """Kind of model: a recurrent GAN (its options are `generator`, `critic`, `loss` and `optimiser`), or flow
    matching on windows (its options are `flow`)."""
    latent_space: Literal["basis", "w_plus"] = "basis"
    """What the generator emits and the critic sees: coefficients in the subject's basis, or W+ itself."""
    basis_size: Annotated[int, at_least(1)] = 32
    """Components of the basis."""
    window_frames: Annotated[int, at_least(2)] = 25
    """Length of a training sequence."""
    frame_rate_hz: Annotated[float, above(0)] = 25.0
    """Footage is resampled to this rate."""
    denoise: bool = False
    """Remove the encoder's noise, which is measured above 10 Hz, from the footage (only in the
    latent space `basis`)."""
    batch_size: Annotated[int, at_least(1)] = 16
    """Sequences in a global batch."""
    steps: Annotated[int, at_least(1)] = 100_000
    """Optimiser steps of each network."""
    ema_decay: Annotated[float, from_to_below(0, 1)] = 0.995
    """Decay of the generator's moving average, which is what samples are drawn from."""
    seed: Annotated[int, from_to(-(2**63), 2**63 - 1)] = 0
    """Seeds the weights, the noise and the choice of windows."""
    generator: GeneratorOptions = field(default_factory=GeneratorOptions)
    critic: CriticOptions = field(default_factory=CriticOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.family == "flow":
            self._check_flow()
        if self.latent_space == "w_plus" and self.loss.moment_matching_weight > 0:
            raise ConfigError(
                "loss.moment_matching_weight works on coefficients: set it to 0 or latent_space to 'basis'"
            )
        if self.latent_space == "w_plus" and self.denoise:
            raise ConfigError("denoise works on coefficients: leave it out or set latent_space to 'basis'")
        shortest = max((1, *self.critic.lags, *self.critic.orders)) + 1
        if self.window_frames < shortest:
            raise ConfigError(
                f"window_frames is {self.window_frames}, expected at least {shortest} "
                "(critic.lags, critic.orders)"
            )

    def _check_flow(self) -> None:
        if self.latent_space != "basis":
            raise ConfigError("the family 'flow' works on coefficients: set latent_space to 'basis'")
        if self.window_frames <= self.flow.given_frames:
            raise ConfigError(
                f"window_frames is {self.window_frames}, expected more than flow.given_frames, "
                f"which is {self.flow.given_frames}"
            )

    def to_dict(self) -> dict[str, Any]:
        """A nested dictionary for JSON, under the names that stored configurations have (FORMER_NAMES).

        That of a GAN has no fields of other families, so that its bytes stay the same.
        """
        stored: dict[str, Any] = under_former_names(self)
        if self.family == "gan":
            del stored["family"], stored["flow"]
        return stored

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TemporalConfig:
        """The inverse of `to_dict`. Raises ConfigError on an unknown field."""
        try:
            config: TemporalConfig = decode(TemporalConfig, values)
        except DecodingError as error:
            raise ConfigError(str(error)) from error
        return config


def paper() -> TemporalConfig:
    """StyleVideoGAN as published (Fox et al., 2021), as far as it is known.

    The paper's full text was not available. The layer sizes, penalty weights, learning rate, batch and number
    of steps are those of the only public re-implementation; everything else beyond the abstract is our
    interpretation. The re-implementation takes the norm of the gradient penalty over time alone; here it is
    taken over all dimensions of a sample.
    """
    return TemporalConfig(
        latent_space="w_plus",
        window_frames=25,
        batch_size=16,
        steps=100_000,
        critic=CriticOptions(frame_widths=(4608, 2304, 1152, 576, 288, 32)),
    )


def demo() -> TemporalConfig:
    """For one minute of the demo's footage: about four minutes on two cores (35 ms a step on a shared core).

    Trained on ten minutes of footage, it passes the limits for distance, diversity, jitter and memorisation
    (docs/benchmarks.md).
    """
    return TemporalConfig(
        basis_size=16,
        denoise=True,
        window_frames=50,
        batch_size=32,
        steps=6000,
        generator=GeneratorOptions(
            layers=1,
            width=64,
            output_widths=(64,),
            normalise=False,
            slowest_noise_frames=30.0,
            warm_up_frames=50,
        ),
        critic=CriticOptions(frame_widths=(128, 64), time_widths=(64, 64), lags=(1, 4), orders=(2, 3)),
        loss=LossOptions(
            adversarial="relativistic",
            critic_penalty_weight=0.2,
            critic_penalty_interval=4,
            angle_penalty_weight=0.0,
            moment_matching_weight=1.0,
        ),
        optimiser=OptimiserOptions(1e-3, 1e-3, betas=(0.0, 0.99), cool_down=0.5),
    )


def faces_1024() -> TemporalConfig:
    """A larger `demo`: for ten minutes of one subject in the W+ of a 1024 px StyleGAN2, on one GPU."""
    base = demo()
    return dataclasses.replace(
        base,
        basis_size=64,
        batch_size=64,
        steps=30_000,
        generator=dataclasses.replace(base.generator, layers=2, width=256, output_widths=(256,)),
        critic=dataclasses.replace(base.critic, frame_widths=(512, 256), time_widths=(256, 256)),
        optimiser=OptimiserOptions(2e-4, 2e-4, betas=(0.0, 0.99), cool_down=0.5),
    )


def flow() -> TemporalConfig:
    """Flow matching for ten minutes of footage: about twenty minutes on one core."""
    return TemporalConfig(
        family="flow",
        basis_size=16,
        denoise=True,
        window_frames=96,
        batch_size=32,
        steps=3000,
        ema_decay=0.999,
    )


RECIPES: dict[str, Callable[[], TemporalConfig]] = {
    "demo": demo,
    "paper": paper,
    "faces_1024": faces_1024,
    "flow": flow,
}
