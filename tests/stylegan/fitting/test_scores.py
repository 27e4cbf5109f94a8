"""PSNR and sharpness of pictures whose faults are known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from svgan_ray.stylegan.fitting import HeldOutScores, ScoreSums, fixed_regions
from svgan_ray.temporal.workers import Workers


def scores_of(pictures: Tensor, images: Tensor) -> HeldOutScores:
    sums = ScoreSums()
    sums.add(pictures, images, fixed_regions(len(images)))
    return sums.total()


@pytest.fixture
def images() -> Tensor:
    """Textured pictures well inside the range."""
    noise = torch.randn(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    return (0.6 * F.avg_pool2d(noise, 3, 1, 1)).clamp(-0.8, 0.8)


def test_decibels_of_a_known_error(images: Tensor) -> None:
    pictures = images.clone()
    pictures[:, :, 45:68, 26:102] += 0.02
    scores = scores_of(pictures, images)
    assert scores.eyes_db == pytest.approx(20 * math.log10(2 / 0.02), abs=1e-3)
    share = 23 * 76 / 128**2
    assert scores.image_db == pytest.approx(scores.eyes_db - 10 * math.log10(share), abs=1e-3)
    assert scores.mouth_db > 100
    assert scores.frames == 6


def blur(images: Tensor) -> Tensor:
    """[1, 2, 1] both ways, which weakens fine detail and turns none of it round."""
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 16


def test_blur_lowers_energy_and_noise_does_not_pass_for_detail(images: Tensor) -> None:
    same, blurred = scores_of(images, images), scores_of(blur(images), images)
    assert same.energy == pytest.approx((1, 1)) and same.coherence == pytest.approx((1, 1))
    assert max(blurred.energy) < 0.6 and min(blurred.coherence) > 0.7
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noisy = scores_of(blur(images) + 0.2 * noise, images)
    assert noisy.energy[1] > blurred.energy[1]
    assert noisy.coherence[1] < blurred.coherence[1] - 0.1


def test_workers_add_up(images: Tensor) -> None:
    pictures = (images * 0.9).clamp(-1, 1)
    parts = [ScoreSums(), ScoreSums()]
    for part, rows in zip(parts, (slice(0, 2), slice(2, 6)), strict=True):
        part.add(pictures[rows], images[rows], fixed_regions(6)[rows])
    sent: list[Tensor] = []
    parts[1].total(Workers(1, 2, lambda value: sent.append(value) or value))  # type: ignore[func-returns-value]
    together = parts[0].total(Workers(0, 2, lambda value: value + sent[0]))
    alone = scores_of(pictures, images)
    assert together.to_dict() == pytest.approx(alone.to_dict()) and together.frames == alone.frames
