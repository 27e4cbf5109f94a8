"""Tiny networks, and footage of no face: two spots that blink, a bar that opens, light that changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from svgan_ray.stylegan.encoder import Encoder, EncoderConfig
from svgan_ray.stylegan.fitting import Footage, fixed_regions, held_out_split
from svgan_ray.stylegan.generator import Generator, GeneratorConfig

SIDE = 32
GENERATOR = GeneratorConfig(SIDE, z_dim=8, w_dim=8, mapping_layers=1, channel_base=256, channel_max=16)
ENCODER = EncoderConfig("e4e", GENERATOR.num_ws, 8, SIDE, (16, 16, 16, 16), (1, 1, 1, 1), 16, 16)


def networks(dtype: torch.dtype = torch.float32) -> tuple[Generator, Encoder]:
    """The same ones at every call."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Generator(GENERATOR).to(dtype), Encoder(ENCODER).to(dtype)


def drawn_crops(count: int, shift: int = 0) -> Tensor:
    """[T, 32, 32, 3] uint8."""
    crops = torch.empty(count, SIDE, SIDE, 3, dtype=torch.uint8)
    for t, crop in enumerate(crops):
        crop[:] = 20 + 60 * (t % 4)
        eye, mouth = 1 + t % 4, 1 + t // 4 % 5
        crop[12 : 12 + eye, 8 + shift : 12 + shift] = torch.tensor([250, 240, 230], dtype=torch.uint8)
        crop[12 : 12 + eye, 20 + shift : 24 + shift] = torch.tensor([250, 240, 230], dtype=torch.uint8)
        crop[21 : 21 + mouth, 12:20] = torch.tensor([200, 30, 40], dtype=torch.uint8)
    return crops


@pytest.fixture
def footage() -> Footage:
    return drawn_footage()


def drawn_footage() -> Footage:
    """240 frames of one subject at 4 a second."""
    split = held_out_split(torch.arange(240).double().numpy() / 4)
    return Footage(
        drawn_crops(240),
        fixed_regions(240),
        torch.from_numpy(split.training),
        torch.from_numpy(split.held_out),
        torch.zeros(240, dtype=torch.long),
    )
