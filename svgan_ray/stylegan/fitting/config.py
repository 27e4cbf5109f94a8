"""How a generator and an encoder are fitted to footage, in one object."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch

from svgan_ray.errors import ConfigError
from svgan_ray.ranges import above, at_least, check_ranges

__all__ = ["FittingConfig", "Precision", "What", "fastest_precision"]

What = Literal["both", "generator"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class FittingConfig:
    """Settings of a fit; weights of losses are relative to the weight of the reconstruction loss.

    what                `both` trains synthesis and encoder; `generator` trains synthesis alone, on stored
                        latents (pivotal tuning); the mapping network is always frozen
    steps, batch        optimiser steps, and images in each over all workers
    micro_batch         images with gradients in memory at once on one worker
    synthesis_rate ...  Adam's learning rates; they warm up over `warmup_steps`, then fall to zero as a cosine
    eye_weight ...      an error around the eyes (or the mouth) counts 1 + this weight times as much
    energy_weight       weight of the loss on the energy of the two finest octaves
    perceptual_weight   weight of the distance that a Fitter is given: LPIPS, or the encoder's own features
    adversarial_weight  weight of a small discriminator's loss; `r1_weight` is that of its gradient penalty
    locality_weight     only for `generator`: weight of the loss that keeps the pictures of other latents, of
                        which `locality_batch` are drawn at each step
    precision           `auto` takes bfloat16 if the device has instructions for it
    seed                seed of batches and draws; with equal seeds, two fits on equal machines are bit-equal
    """

    what: What = "both"
    steps: Annotated[int, at_least(1)] = 1000
    batch: Annotated[int, at_least(1)] = 16
    micro_batch: Annotated[int, at_least(1)] = 16
    synthesis_rate: Annotated[float, above(0)] = 6e-3
    encoder_rate: Annotated[float, above(0)] = 1e-3
    warmup_steps: Annotated[int, at_least(0)] = 50
    eye_weight: Annotated[float, at_least(0)] = 4.0
    mouth_weight: Annotated[float, at_least(0)] = 6.0
    energy_weight: Annotated[float, at_least(0)] = 0.0
    perceptual_weight: Annotated[float, at_least(0)] = 0.0
    adversarial_weight: Annotated[float, at_least(0)] = 0.0
    discriminator_rate: Annotated[float, above(0)] = 1e-3
    r1_weight: Annotated[float, at_least(0)] = 1.0
    locality_weight: Annotated[float, at_least(0)] = 2.0
    locality_batch: Annotated[int, at_least(1)] = 4
    precision: Precision = "auto"
    seed: Annotated[int, at_least(0)] = 0

    def __post_init__(self) -> None:
        for name, choices in (("what", get_args(What)), ("precision", get_args(Precision))):
            if (value := getattr(self, name)) not in choices:
                raise ConfigError(f"fitting {name}: expected one of {', '.join(choices)}, got {value!r}")
        check_ranges(self)

    def rate_share(self, step: int) -> float:
        """Factor of the learning rates at a step: a linear warm-up times half a cosine that falls to zero."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def fastest_precision(device: torch.device | str) -> Precision:
    """bfloat16 if the device has instructions for it, float32 if the device would only emulate bfloat16."""
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float32"
    has_it = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_it else "float32"
