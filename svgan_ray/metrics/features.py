"""Windows of motion and their features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis

__all__ = ["Windows", "blocks_of", "cut_windows", "evaluation_basis", "power_spectrum", "window_features"]

EVALUATION_COMPONENTS = 16
LAGS_FRAMES = (1, 2, 4, 8)
BANDS_HZ = (0.4, 1.5, 3.0, 6.0, math.inf)
BLOCK_WINDOWS = 10

# Smaller motion counts as this much, in standard deviations of a component, to keep the logarithm finite.
STILL = 1e-2


@dataclass(frozen=True)
class Windows:
    """Windows of equal length, and the number of the block of footage that each one was cut from."""

    data: Tensor  # [N, T, K] float64
    block: Tensor  # [N] int64


def evaluation_basis(basis: LatentBasis) -> LatentBasis:
    """The first 16 components of the real snapshot's basis, in which models of any K are compared."""
    count = EVALUATION_COMPONENTS
    return LatentBasis(basis.mean, basis.components[:count], basis.sigma[:count], basis.explained)


def blocks_of(clips: Sequence[Tensor], window_frames: int) -> list[Tensor]:
    """Clips [T, K] cut into blocks of ten windows; footage is divided by blocks, because windows overlap."""
    size = BLOCK_WINDOWS * window_frames
    blocks = [clip[first : first + size] for clip in clips for first in range(0, len(clip), size)]
    return [block.double() for block in blocks if len(block) >= window_frames]


def cut_windows(blocks: Sequence[Tensor], window_frames: int, speed: int = 1) -> Windows:
    """Windows that overlap by half; with a speed above 1, of every speed-th frame, at the same places."""
    stride = max(1, window_frames // (2 * speed))
    played = {number: block[::speed] for number, block in enumerate(blocks)}
    cut = {
        number: block.unfold(0, window_frames, stride).transpose(1, 2)  # [N, T, K]
        for number, block in played.items()
        if len(block) >= window_frames
    }
    if not cut:
        return Windows(
            torch.empty(0, window_frames, 1, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
        )
    numbers = [torch.full((len(windows),), number) for number, windows in cut.items()]
    return Windows(torch.cat(list(cut.values())), torch.cat(numbers))


def window_features(windows: Tensor, rate_hz: float) -> Tensor:
    """Features [N, F] of windows [N, T, K].

    They are, for each component, the mean, the log standard deviation, the logs of the differences at 1, 2, 4
    and 8 frames (root mean square) and the logs of the amplitudes in four frequency bands. Logarithms turn a
    change of amplitude into an equally large shift for large and small motion.
    """
    lags = [lag for lag in LAGS_FRAMES if lag < windows.shape[1]]
    amplitudes = [windows.std(1)]
    amplitudes += [(windows[:, lag:] - windows[:, :-lag]).square().mean(1).sqrt() for lag in lags]
    power, frequency_hz = power_spectrum(windows, rate_hz)
    for low_hz, high_hz in pairwise(BANDS_HZ):
        inside = (frequency_hz >= low_hz) & (frequency_hz < high_hz)
        amplitudes.append(power[:, inside].sum(1).sqrt())
    return torch.cat([windows.mean(1), *((amplitude + STILL).log() for amplitude in amplitudes)], 1)


def power_spectrum(windows: Tensor, rate_hz: float) -> tuple[Tensor, Tensor]:
    """Power [N, T // 2 + 1, K] of Hann-tapered windows [N, T, K] minus their mean, and frequencies in Hz."""
    frames = windows.shape[1]
    taper = torch.hann_window(frames, dtype=windows.dtype)[:, None]
    spectrum = torch.fft.rfft((windows - windows.mean(1, keepdim=True)) * taper, dim=1)
    return spectrum.abs().square() / frames**2, torch.fft.rfftfreq(frames, 1 / rate_hz)
