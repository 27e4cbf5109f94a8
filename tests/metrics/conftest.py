"""A person's motion as twelve mixed signals of known kinds, in whitened coefficients."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

RATE_HZ = 25.0
COMPONENTS = 16


def smooth(noise: Tensor, width_frames: float) -> Tensor:
    """Noise [T, n] through a Gaussian of that width, to unit variance."""
    reach = int(3 * width_frames)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width_frames) ** 2)
    padded = torch.nn.functional.conv1d(noise.T[:, None], kernel[None, None], padding=reach)[:, 0].T
    return padded / padded.std(0)


def move(seconds: float, seed: int, blinks_hz: float = 0.4) -> Tensor:
    """Coefficients [T, 16]: a slow head, bursts of speech, blinks, and an encoder's noise."""
    generator = torch.Generator().manual_seed(seed)
    frames = round(seconds * RATE_HZ)

    def draw(count: int) -> Tensor:
        return torch.randn(frames, count, generator=generator)

    head = smooth(draw(5), 14)
    talking = (smooth(draw(1), 25) > -0.4).float()
    speech = smooth(draw(4), 2.5) * talking
    blink = (torch.rand(frames, 1, generator=generator) < blinks_hz / RATE_HZ).float()
    lids = smooth(draw(2), 10) - 3 * torch.nn.functional.avg_pool1d(blink.T, 5, 1, 2, False).T * 5
    mixing = torch.linalg.qr(torch.randn(COMPONENTS, 11, generator=torch.Generator().manual_seed(0))).Q
    return torch.cat([head, speech, lids], 1) @ mixing.T + 0.03 * draw(COMPONENTS)


@pytest.fixture(scope="session")
def footage() -> Callable[..., list[Tensor]]:
    """`footage(minutes, seed)`: clips of a quarter of that each, of one person."""

    @functools.cache
    def clips(minutes: float, seed: int, **temperament: float) -> list[Tensor]:
        return [move(15 * minutes, 100 * seed + part, **temperament) for part in range(4)]

    return clips


@pytest.fixture(scope="session")
def samples() -> Callable[..., Tensor]:
    """`samples(count, seconds, seed)`: independent motion of the same person [S, T, 16]."""

    @functools.cache
    def draw(count: int, seconds: float, seed: int, **temperament: float) -> Tensor:
        return torch.stack([move(seconds, 10_000 * seed + number, **temperament) for number in range(count)])

    return draw
