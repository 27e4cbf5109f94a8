"""Factors that the factor reader finds in pictures rendered from W+, compared with the true factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from demo_subject import FRAME_RATE_HZ
from torch import Tensor

from svgan_ray.demo.behaviour import CLOSED_LID, OPEN_LID
from svgan_ray.demo.factor_reader import load_factor_reader
from svgan_ray.demo.factors import GROUPS, INDEX, indices
from svgan_ray.metrics.features import blocks_of, cut_windows, power_spectrum
from svgan_ray.stylegan.weights import load_generator, weights_folders

BANDS_HZ = (0.2, 1.0, 3.0, 6.0)
SPECTRUM_WINDOW_S = 5.0
BATCH = 16

# Lids count as shut below the first and as open again above the second.
SHUT, OPEN_AGAIN = (OPEN_LID + CLOSED_LID) / 2, OPEN_LID - 0.25 * (OPEN_LID - CLOSED_LID)


@dataclass(frozen=True)
class FactorStatistics:
    """Statistics of factors over time."""

    blinks_hz: float
    mouth_amplitudes: tuple[float, ...]  # of the opening, in each band
    yaw_spread: float
    pitch_spread: float
    identity_noise: float  # root mean square over identity factors of their deviation within a clip

    def named(self) -> dict[str, float]:
        bands = [f"mouth opening, {low:g}-{high:g} Hz" for low, high in pairwise(BANDS_HZ)]
        return {
            "blinks a second": self.blinks_hz,
            **dict(zip(bands, self.mouth_amplitudes, strict=True)),
            "yaw, deviation": self.yaw_spread,
            "pitch, deviation": self.pitch_spread,
            "identity, noise": self.identity_noise,
        }


@torch.inference_mode()
def read_factors(w_plus: Tensor) -> Tensor:
    """The factors [T, NUM_FACTORS] that are read from the pictures of W+ [T, n, d]."""
    synthesis, reader = load_generator(weights_folders("demo")[0]).synthesis, load_factor_reader()
    return torch.cat([reader.read(synthesis(part).clamp(-1, 1)) for part in w_plus.split(BATCH)])


def factor_statistics(clips: Sequence[Tensor]) -> FactorStatistics:
    """Statistics of factors [T, NUM_FACTORS] of one person's clips."""
    duration_s = sum(map(len, clips)) / FRAME_RATE_HZ
    lids = [clip[:, indices(("eyelid_left", "eyelid_right"))].mean(1) for clip in clips]
    together = torch.cat(list(clips))
    identity = [clip[:, indices(GROUPS["identity"])].var(0) for clip in clips]
    return FactorStatistics(
        blinks_hz=sum(map(blinks_in, lids)) / duration_s,
        mouth_amplitudes=amplitudes([clip[:, INDEX["mouth_opening"], None] for clip in clips]),
        yaw_spread=float(together[:, INDEX["yaw"]].std()),
        pitch_spread=float(together[:, INDEX["pitch"]].std()),
        identity_noise=float(torch.stack(identity).mean().sqrt()),
    )


def blinks_in(lid: Tensor) -> int:
    """The number of times that a lid with openings [T] closes."""
    blinks, is_open = 0, True
    for value in lid.tolist():
        if is_open and value < SHUT:
            blinks, is_open = blinks + 1, False
        is_open = is_open or value > OPEN_AGAIN
    return blinks


def amplitudes(courses: Sequence[Tensor]) -> tuple[float, ...]:
    """Root of the mean power of time series [T, 1] in each frequency band."""
    frames = round(SPECTRUM_WINDOW_S * FRAME_RATE_HZ)
    power, frequency_hz = power_spectrum(cut_windows(blocks_of(courses, frames), frames).data, FRAME_RATE_HZ)
    spectrum = power.mean((0, 2))
    bands = [(frequency_hz >= low) & (frequency_hz < high) for low, high in pairwise(BANDS_HZ)]
    return tuple(float(spectrum[band].sum().sqrt()) for band in bands)
