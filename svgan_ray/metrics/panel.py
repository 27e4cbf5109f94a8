"""A panel of seven scores that see what a Frechet distance of window features is blind to.

Each is the worst over components, or over pairs of them, of a distance between generated motion and footage;
0 is alike. Correlations see pace, lead and lag; smoothed speeds see what moves at the same time; the others
see the shape of events: how far, how fast, and how long at rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from svgan_ray.metrics.features import blocks_of, cut_windows

__all__ = ["SCORES", "Panel", "footage_bars", "truth_bars"]

SCORES = ("own", "lag", "envelope", "outside", "extremes", "rates", "rest")

LAG_S = 2.0
WINDOW_S = 2.0
SMOOTHING_S = 0.4
TAIL = 0.001  # share of the footage's frames beyond each end of its range
REST = 0.25  # share of the footage's frames that count as rest
TRUTH_MARGIN, FOOTAGE_MARGIN = 1.2, 1.1
DIVISIONS = 4
LEAST_BLOCKS, SHORT_BLOCK_WINDOWS = 4, 2
LEAST_BAR = 0.05
_STILL = 1e-6  # the deviation of what does not move, to divide by


class Panel:
    """Compares motion with footage, clips [T, K] of one evaluation basis, at least one longer than 2 s."""

    def __init__(self, footage: Sequence[Tensor], rate_hz: float) -> None:
        self.rate_hz = rate_hz
        together = torch.cat(list(footage)).float()
        speed = torch.cat([clip.float().diff(dim=0).abs() for clip in footage])
        ends = torch.tensor([TAIL, 1 - TAIL], dtype=together.dtype)
        self.range = _quantiles(together, ends)  # [2, K]
        self.slow = _quantiles(speed, torch.tensor([REST], dtype=speed.dtype))[0]  # [K]
        self.own, self.envelope = self._correlations(footage)
        self.windows = self._windows(footage)

    def scores(self, clips: Sequence[Tensor]) -> dict[str, float]:
        """How far motion, clips [T, K], is from the footage: the worst of each kind, by name."""
        own, envelope = self._correlations(clips)
        error, envelope_error = (own - self.own).abs(), (envelope - self.envelope).abs()  # [lags, K, K]
        diagonal = torch.eye(error.shape[-1], dtype=torch.bool)
        distances = {name: _ks(of, self.windows[name]) for name, of in self._windows(clips).items()}
        together = torch.cat(list(clips)).float()
        outside = ((together < self.range[0]) | (together > self.range[1])).float().mean(0) / (2 * TAIL)
        return {
            "own": float(error[:, diagonal].max()),
            "lag": float(error.masked_fill(diagonal, 0).max()),
            "envelope": float(envelope_error.masked_fill(diagonal, 0).max()),
            "outside": float(outside.max()),
            "extremes": float(torch.maximum(distances["highest"], distances["lowest"]).max()),
            "rates": float(torch.maximum(distances["rise"], distances["fall"]).max()),
            "rest": float(distances["rest"].max()),
        }

    def _correlations(self, clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Of values and of smoothed speeds, at lags from 0 to 2 s: each [lags, K, K]."""
        lags, width = round(LAG_S * self.rate_hz), max(1, round(SMOOTHING_S * self.rate_hz))
        long = [clip.float() for clip in clips if len(clip) > width]
        speeds = [avg_pool1d(clip.diff(dim=0).abs().T[None], width, 1)[0].T for clip in long]
        return _lagged(long, lags), _lagged(speeds, lags)

    def _windows(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        """What is seen of each window of 2 s, by name: each [N, K]."""
        frames = round(WINDOW_S * self.rate_hz)
        windows = cut_windows(blocks_of([clip.float() for clip in clips], frames), frames).data.float()
        rates = windows.diff(dim=1)
        return {
            "highest": windows.amax(1),
            "lowest": windows.amin(1),
            "rise": rates.amax(1),
            "fall": rates.amin(1),
            "rest": (rates.abs() < self.slow).float().mean(1),
        }


def truth_bars(draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """1.2 times the most that draws of true motion show."""
    return {name: TRUTH_MARGIN * max(draw[name] for draw in draws) for name in SCORES}


def footage_bars(footage: Sequence[Tensor], rate_hz: float) -> dict[str, float]:
    """1.1 times what one half of the footage shows against the other, where the truth is not known.

    It is the mean over four divisions of the footage's blocks. Halves differ by the square root of two more
    than the whole does from as much truth, so a bar is about 1.5 times what truth shows on average, which it
    hardly ever passes. Bars are nan where there is too little footage to be divided.
    """
    frames = round(WINDOW_S * rate_hz)
    blocks = blocks_of(footage, frames)
    if len(blocks) < LEAST_BLOCKS:
        blocks = [part for block in blocks for part in block.split(SHORT_BLOCK_WINDOWS * frames)]
        blocks = [block for block in blocks if len(block) >= frames]
    if len(blocks) < LEAST_BLOCKS:
        return dict.fromkeys(SCORES, math.nan)
    shown = []
    for division in range(DIVISIONS):
        order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(division)).tolist()
        first, second = order[: len(blocks) // 2], order[len(blocks) // 2 :]
        shown.append(Panel([blocks[i] for i in first], rate_hz).scores([blocks[i] for i in second]))
    mean = {name: sum(draw[name] for draw in shown) / DIVISIONS for name in SCORES}
    return {name: max(FOOTAGE_MARGIN * mean[name], LEAST_BAR) for name in SCORES}


def _lagged(clips: Sequence[Tensor], lags: int) -> Tensor:
    """Correlations [lags + 1, K, K] of each component with each one later, over all clips [T, K]."""
    together = torch.cat(list(clips))
    mean, deviation = together.mean(0), together.std(0).clamp(min=_STILL)
    centred = [((clip - mean) / deviation) for clip in clips]
    sums = torch.zeros(lags + 1, mean.shape[0], mean.shape[0])
    counts = torch.zeros(lags + 1)
    for clip in centred:
        for lag in range(min(lags + 1, len(clip))):
            sums[lag] += clip[: len(clip) - lag].T @ clip[lag:]
            counts[lag] += len(clip) - lag
    return sums / counts.clamp(min=1)[:, None, None]


def _quantiles(values: Tensor, shares: Tensor) -> Tensor:
    """Quantiles [Q, K] of values [N, K], of any number."""
    ordered = values.sort(0).values
    return ordered[(shares * (len(values) - 1)).round().long()]


def _ks(a: Tensor, b: Tensor) -> Tensor:
    """Kolmogorov-Smirnov distance [K] between the columns of a [N, K] and b [M, K]."""
    a, b = (x.T.contiguous().sort(1).values for x in (a, b))
    every = torch.cat([a, b], 1)
    shares = [torch.searchsorted(x, every, right=True) / x.shape[1] for x in (a, b)]
    return (shares[0] - shares[1]).abs().amax(1)
