"""A panel of seven scores for differences that a Frechet distance of window features cannot detect.

Each score is the worst, over components or pairs of components, of a distance between generated motion and
footage; 0 means equal. Correlations measure pace, lead and lag; smoothed speeds measure which components move
at the same time; the other scores measure the shape of events: how far, how fast, and how long at rest.
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
_STILL = 1e-6  # smallest standard deviation to divide by, for components that do not move


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
        """The scores of motion, clips [T, K], against the footage: the worst of each kind, by name."""
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
        """Correlations of values and of smoothed speeds at lags from 0 to 2 s, each [lags, K, K]."""
        lags, width = round(LAG_S * self.rate_hz), max(1, round(SMOOTHING_S * self.rate_hz))
        long = [clip.float() for clip in clips if len(clip) > width]
        speeds = [avg_pool1d(clip.diff(dim=0).abs().T[None], width, 1)[0].T for clip in long]
        return _lagged(long, lags), _lagged(speeds, lags)

    def _windows(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        """The statistics of each window of 2 s by name, each [N, K]."""
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
    """The bars of true motion: 1.2 times the largest score of its draws."""
    return {name: TRUTH_MARGIN * max(draw[name] for draw in draws) for name in SCORES}


def footage_bars(footage: Sequence[Tensor], rate_hz: float) -> dict[str, float]:
    """The bars if the truth is not known: 1.1 times the scores of one half of the footage against the other.

    The scores are means over four divisions of the footage's blocks. Halves differ from each other by a
    factor of sqrt(2) more than the whole footage differs from as much truth. So a bar is about 1.5 times the
    average score of truth, which hardly ever exceeds it. Bars are nan if there is too little footage to be
    divided.
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
    """Correlations [lags + 1, K, K] of each component with each one at a later time, over clips [T, K]."""
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
    """Quantiles [Q, K] of any number of values [N, K]."""
    ordered = values.sort(0).values
    return ordered[(shares * (len(values) - 1)).round().long()]


def _ks(a: Tensor, b: Tensor) -> Tensor:
    """Kolmogorov-Smirnov distance [K] between the columns of a [N, K] and b [M, K]."""
    a, b = (x.T.contiguous().sort(1).values for x in (a, b))
    every = torch.cat([a, b], 1)
    shares = [torch.searchsorted(x, every, right=True) / x.shape[1] for x in (a, b)]
    return (shares[0] - shares[1]).abs().amax(1)
