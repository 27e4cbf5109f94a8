"""Where the demo portraits' factors lie in the demo generator's latent spaces.

StyleGAN2's mapping normalises z, so factors are a function of z/|z|: the first NUM_FACTORS coordinates of the
normalised z *are* the factors, and the others only fill up the norm. The mapping is one layer that is set,
not trained: an orthogonal embedding with a bias that keeps the leaky ReLU in its linear range. So W is linear
in the factors, which the offset trick requires.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svgan_ray.demo.factors import NUM_FACTORS
from svgan_ray.stylegan.encoder import EncoderConfig
from svgan_ray.stylegan.generator import Generator, GeneratorConfig

GENERATOR = GeneratorConfig(
    resolution=128,
    z_dim=96,
    w_dim=64,
    mapping_layers=1,
    mapping_lr_multiplier=1.0,
    channel_base=2048,
    channel_max=128,
)
ENCODER = EncoderConfig(
    kind="e4e",
    num_ws=GENERATOR.num_ws,
    w_dim=GENERATOR.w_dim,
    input_side=128,
    widths=(16, 32, 64, 64),
    units=(1, 2, 2, 1),
    stem_width=16,
    head_width=48,
)
BIAS = 1.0
SPREAD = 0.3  # deviation of a pre-activation; the bias is 3.3 deviations, so the slope hardly ever changes


def z_of_factors(factors: Tensor) -> Tensor:
    """The z of each portrait, of norm sqrt(z_dim): [N, NUM_FACTORS] → [N, z_dim]."""
    spare = GENERATOR.z_dim - NUM_FACTORS
    missing = (GENERATOR.z_dim - factors.square().sum(dim=1, keepdim=True)).clamp(min=0)
    return torch.cat([factors, (missing / spare).sqrt().expand(-1, spare)], dim=1)


def embedding() -> Tensor:
    """The mapping's pre-activation per factor, [w_dim, NUM_FACTORS]: orthogonal columns, equally long."""
    seeded = torch.Generator().manual_seed(20210715)
    draw = torch.randn(GENERATOR.w_dim, NUM_FACTORS, generator=seeded, dtype=torch.float64)
    columns: Tensor = torch.linalg.qr(draw).Q  # [w_dim, NUM_FACTORS]
    return (columns * SPREAD * math.sqrt(GENERATOR.w_dim / NUM_FACTORS)).float()


@torch.no_grad()
def set_mapping(generator: Generator) -> None:
    """Write the embedding into the generator's mapping and w_avg."""
    weight, bias = (generator.mapping.get_parameter(f"fc0.{name}") for name in ("weight", "bias"))
    weight.zero_()
    weight[:, :NUM_FACTORS] = embedding() * math.sqrt(GENERATOR.z_dim)  # the layer divides by sqrt(fan in)
    bias.fill_(BIAS)
    generator.mapping.w_avg.copy_(torch.full((GENERATOR.w_dim,), BIAS * math.sqrt(2)))


def factors_of_w(w: Tensor) -> Tensor:
    """The factors that style vectors encode: [..., w_dim] → [..., NUM_FACTORS]."""
    columns = embedding().to(w)
    return (w / math.sqrt(2) - BIAS) @ columns / columns.square().sum(dim=0)
