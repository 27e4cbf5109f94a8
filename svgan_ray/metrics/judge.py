"""A judge of whole windows: a classifier that learns to distinguish generated motion from footage.

This is the classifier two-sample test (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", 2017).
Windows are described by random convolutions (Dempster, Petitjean and Webb, "ROCKET", 2020) and classified by
ridge regression. The area under the ROC curve is 0.5 if the judge can only guess, and 1 if it never errs. A
judge that sees every detail shows little about how far apart two sides are, so it also judges with noise
added to both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv1d

__all__ = ["NOISES", "Judgement", "judge"]

NOISES = (0.0, 0.1, 0.3)
"""Standard deviations of the noise that is added to both sides, relative to those of the footage."""
WINDOW_S, STRIDE_S = 4.0, 2.0
BLOCK_S, GAP_S = 10.0, 2.0
FOLDS = 5
KERNELS, TAPS, MOST_COMPONENTS = 96, 9, 4
DILATIONS_S = (0.04, 0.08, 0.16, 0.32)
RIDGE = 1.0  # times the mean eigenvalue of the kernel matrix
RESAMPLED = 500
ASKED = 16  # windows of footage from which the biases of kernels are drawn
_STILL = 1e-6


@dataclass(frozen=True)
class Judgement:
    """The judge's result for one noise on both sides; nan if there is too little motion."""

    noise: float
    auc: float
    low: float  # lower end of the 95 % interval: the bootstrap's spread around the mean
    high: float
    windows: int  # of the side that has fewer

    @property
    def excludes_guessing(self) -> bool:
        """Whether a judge that only guesses would hardly ever reach this area."""
        return self.low > 0.5


@dataclass(frozen=True)
class _Side:
    """Windows [N, T, K] of one side, and the block and the clip that each one was cut from."""

    windows: Tensor
    block: Tensor  # [N]
    clip: Tensor  # [N]

    @property
    def fold(self) -> Tensor:
        """The fold of each window [N]: folds are clips if there are enough of them, else blocks."""
        names, rank = self.clip.unique(return_inverse=True)
        fold: Tensor = (rank if len(names) >= FOLDS else self.block) % FOLDS
        return fold


def judge(
    footage: Sequence[Tensor],
    motion: Sequence[Tensor],
    rate_hz: float,
    noises: Sequence[float] = NOISES,
    seed: int = 0,
) -> list[Judgement]:
    """Judge motion, clips [T, K], against footage of the same basis, once for each noise.

    Windows of 4 s are cut from blocks of 10 s with gaps of 2 s. A side's folds are disjoint clips if it has
    five or more, and disjoint blocks otherwise. Both sides get equally many blocks.
    """
    sides = [_side(clips, rate_hz) for clips in (footage, motion)]
    blocks = min(int(side.block.max()) + 1 if len(side.block) else 0 for side in sides)
    if blocks < FOLDS:
        count = min(len(side.windows) for side in sides)
        return [Judgement(noise, math.nan, math.nan, math.nan, count) for noise in noises]
    real, other = (_thinned(side, blocks) for side in sides)
    deviation = real.windows.std((0, 1)).clamp(min=_STILL)
    mean = real.windows.mean((0, 1))
    filters = _Filters(real.windows.shape[2], rate_hz, seed)
    return [_judged(real, other, mean, deviation, filters, noise, seed) for noise in noises]


def _side(clips: Sequence[Tensor], rate_hz: float) -> _Side:
    window, stride = round(WINDOW_S * rate_hz), round(STRIDE_S * rate_hz)
    length, step = round(BLOCK_S * rate_hz), round((BLOCK_S + GAP_S) * rate_hz)
    cut: list[Tensor] = []
    block: list[Tensor] = []
    source: list[Tensor] = []
    for number, clip in enumerate(clips):
        for first in range(0, len(clip) - length + 1, step):
            windows = clip[first : first + length].float().unfold(0, window, stride).transpose(1, 2)
            block.append(torch.full((len(windows),), len(cut)))
            source.append(torch.full((len(windows),), number))
            cut.append(windows)
    if not cut:
        nothing = torch.empty(0, dtype=torch.int64)
        return _Side(torch.empty(0, window, 1), nothing, nothing)
    return _Side(torch.cat(cut), torch.cat(block), torch.cat(source))


def _thinned(side: _Side, blocks: int) -> _Side:
    """A side reduced to this many blocks, spread evenly over all and renumbered."""
    every = int(side.block.max()) + 1
    kept = torch.linspace(0, every - 1, blocks).round().long()
    number = torch.full((every,), -1)
    number[kept] = torch.arange(blocks)
    rows = number[side.block] >= 0
    return _Side(side.windows[rows], number[side.block[rows]], side.clip[rows])


class _Filters:
    """Random kernels over the values of one to four components, and over their differences."""

    def __init__(self, components: int, rate_hz: float, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.banks = []
        for dilation_s in DILATIONS_S:
            taps = torch.randn(2 * KERNELS, components, TAPS, generator=random)
            taps -= taps.mean(2, keepdim=True) * (torch.rand(len(taps), 1, 1, generator=random) < 0.5)
            most = min(MOST_COMPONENTS, components)
            seen = torch.randint(1, most + 1, (len(taps), 1), generator=random)
            rank = torch.rand(len(taps), components, generator=random).argsort(1).argsort(1)
            taps *= (rank < seen)[:, :, None]
            self.banks.append((taps, max(1, round(dilation_s * rate_hz))))
        self.offset = torch.rand(len(DILATIONS_S), 2 * KERNELS, generator=random)

    def thresholds(self, windows: Tensor) -> list[Tensor]:
        """A bias for each kernel: a random quantile of its response to the footage [N, T, K]."""
        found = []
        for answers, offsets in zip(
            self._answers(windows[:: max(1, len(windows) // ASKED)]), self.offset, strict=True
        ):
            flat = answers.transpose(0, 1).flatten(1).sort(1).values  # [kernels, N * T]
            place = ((0.05 + 0.9 * offsets) * (flat.shape[1] - 1)).long()
            found.append(flat.gather(1, place[:, None]).flatten())
        return found

    def features(self, windows: Tensor, thresholds: Sequence[Tensor]) -> Tensor:
        """The share of a window above the bias, the maximum, the mean above the bias: [N, 3 * kernels]."""
        found = []
        for answers, bias in zip(self._answers(windows), thresholds, strict=True):
            above = answers - bias[:, None]
            found += [(above > 0).float().mean(2), above.amax(2), above.clamp(min=0).mean(2)]
        return torch.cat(found, 1)

    def _answers(self, windows: Tensor) -> list[Tensor]:
        values = windows.transpose(1, 2)  # [N, K, T]
        rates = values.diff(dim=2)
        rates = rates / rates.std((0, 2), keepdim=True).clamp(min=_STILL)
        found = []
        for taps, dilation in self.banks:
            of_values, of_rates = taps.split(KERNELS)
            answers = conv1d(values, of_values, dilation=dilation)[:, :, 1:]
            found.append(torch.cat([answers, conv1d(rates, of_rates, dilation=dilation)], 1))
        return found


def _judged(
    real: _Side, other: _Side, mean: Tensor, deviation: Tensor, filters: _Filters, noise: float, seed: int
) -> Judgement:
    random = torch.Generator().manual_seed(seed + 1)
    both = torch.cat([real.windows, other.windows])
    both = (both - mean) / deviation
    both = both + noise * torch.randn(both.shape, generator=random)
    features = filters.features(both, filters.thresholds(both[: len(real.windows)]))
    label = torch.cat([-torch.ones(len(real.windows)), torch.ones(len(other.windows))])
    fold = torch.cat([real.fold, other.fold])
    block = torch.cat([real.block, other.block])
    wins = []
    for number in range(FOLDS):
        asked = fold == number
        answers = _ridge(features[~asked], label[~asked], features[asked])
        wins.append(_wins(answers, label[asked], block[asked]))
    auc = sum(float(won.mean()) for won in wins) / FOLDS
    drawn = _resampled(wins, random)
    spread = 1.96 * float(drawn.std())
    return Judgement(noise, auc, auc - spread, auc + spread, min(len(real.windows), len(other.windows)))


def _ridge(known: Tensor, label: Tensor, asked: Tensor) -> Tensor:
    """Predictions [M] for features [M, F] by ridge regression on known features [N, F] of label 1 or -1."""
    mean, scale = known.mean(0), known.std(0).clamp(min=_STILL)
    known, asked = (((x - mean) / scale).clamp(-8, 8) for x in (known, asked))
    kernel = known @ known.T
    penalty = RIDGE * kernel.diagonal().mean() * torch.eye(len(kernel))
    weights = torch.linalg.solve(kernel + penalty, label - label.mean())
    answers: Tensor = asked @ (known.T @ weights)
    return answers


def _wins(answers: Tensor, label: Tensor, block: Tensor) -> Tensor:
    """How often a generated block's windows score higher than a real block's [B, R]; ties count half."""
    real, other = label < 0, label > 0
    won = torch.sign(answers[other][:, None] - answers[real]) / 2 + 0.5
    rows, columns = (_membership(block[side]) for side in (other, real))
    mean: Tensor = rows @ won @ columns.T
    return mean


def _membership(block: Tensor) -> Tensor:
    """Rows [B, N] of weights that compute the mean over each block."""
    names = block.unique()
    belongs = (block == names[:, None]).float()
    shares: Tensor = belongs / belongs.sum(1, keepdim=True)
    return shares


def _resampled(wins: Sequence[Tensor], random: torch.Generator) -> Tensor:
    """Areas under the curve [500] of bootstrap samples: blocks drawn with replacement on both sides."""
    total = torch.zeros(RESAMPLED)
    for won in wins:
        rows, columns = (torch.randint(count, (RESAMPLED, count), generator=random) for count in won.shape)
        total += torch.stack([won[row][:, column].mean() for row, column in zip(rows, columns, strict=True)])
    return total / len(wins)
