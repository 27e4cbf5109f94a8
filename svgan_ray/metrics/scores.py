"""Diversity, jitter, angle and memorisation: four ways to score well on distributions and still fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.metrics.features import BLOCK_WINDOWS, blocks_of, cut_windows, power_spectrum

__all__ = [
    "Memorisation",
    "diversity",
    "fast_power_share",
    "mean_pairwise_distance",
    "memorisation",
    "noise_angle",
]

JITTER_HZ = 6.0
LEAST_GENERATED = 1000
_SPECTRUM_WINDOW_S = 2.0
_MEMORY_STRIDE_FRAMES = 2
_SIGNIFICANT = 0.05
_SAME = 1e-6  # the distance of a window to itself, for the logarithm
_STILL = 1e-6  # the deviation of what does not change, to divide by


def mean_pairwise_distance(windows: Tensor) -> float:
    """Mean Euclidean distance between two different windows of [N, T, K]; nan for fewer than two."""
    flat = windows.double().flatten(1)
    pairs = len(flat) * (len(flat) - 1) / 2
    return float(torch.pdist(flat).sum()) / pairs if pairs else math.nan


def diversity(real: Tensor, generated: Tensor) -> float:
    """Mean pairwise distance of generated windows over that of as many real ones; 1 is as diverse as real."""
    count = min(len(real), len(generated))
    return mean_pairwise_distance(_spread(generated, count)) / mean_pairwise_distance(_spread(real, count))


def fast_power_share(clips: Sequence[Tensor], rate_hz: float, weights: Tensor | None = None) -> float:
    """Share of the motion's power above 6 Hz in clips [T, K]; nan where the frame rate shows none.

    `weights` [K] are the components' variances where the clips are whitened, so that the share is that of W+.
    """
    if rate_hz <= 2 * JITTER_HZ:
        return math.nan
    frames = round(_SPECTRUM_WINDOW_S * rate_hz)
    windows = cut_windows(blocks_of(clips, frames), frames).data
    power, frequency_hz = power_spectrum(windows, rate_hz)
    power = (power * weights if weights is not None else power).sum((0, 2))
    return float(power[frequency_hz > JITTER_HZ].sum() / power.sum())


def noise_angle(noise: Tensor, change: Tensor) -> Tensor:
    """phi = arctan(||dd/ds_1..|| / ||dd/ds_0||) of each sample [N].

    d = ||Delta||_2, standardised over the samples; `change` is Delta [N, width], computed from noise
    [N, T, noise_dim]. What no noise moves has angle 0.
    """
    mean, std = change.detach().mean(0), change.detach().std(0) + _STILL
    distance = ((change - mean) / std).norm(dim=1)
    (gradient,) = torch.autograd.grad(distance.sum(), noise)
    later, first = (part.flatten(1).norm(dim=1) for part in (gradient[:, 1:], gradient[:, :1]))
    return torch.atan2(later, first)


@dataclass(frozen=True, eq=False)
class Memorisation:
    """Whether generated windows lie nearer to training footage than held-out ones do.

    `p_value` is small where generated windows have the smaller distances to their nearest training window
    (Mann and Whitney, one-sided). Small or smooth motion has, since it lies near to everything; a copy lies
    near to training footage only. So `copied_p_value` compares each distance over that to the nearest
    held-out window (of another block of the held-out footage), and `copied_share` is the share of generated
    windows below the lowest hundredth of held-out ratios, so 0.01 is expected.
    """

    p_value: float
    copied_p_value: float
    copied_share: float
    training_windows: int
    ratios: Tensor = field(repr=False)  # [N], of generated windows
    held_out_ratios: Tensor = field(repr=False)  # [M]

    @property
    def generated_windows(self) -> int:
        return len(self.ratios)

    @property
    def held_out_windows(self) -> int:
        return len(self.held_out_ratios)

    @property
    def verdict(self) -> str:
        if self.generated_windows < LEAST_GENERATED:
            return f"not fit: {self.generated_windows} generated windows, {LEAST_GENERATED} are the least"
        if self.copied_p_value <= _SIGNIFICANT:
            return "nearer to training footage than held-out footage is, and to that alone: copied"
        if self.p_value <= _SIGNIFICANT:
            return "nearer to training and to held-out footage than that is: too little motion, not copied"
        return "no sign of copying"


def memorisation(training: Sequence[Tensor], held_out: Sequence[Tensor], generated: Tensor) -> Memorisation:
    """Compare windows [N, T, K] of generated motion with held-out clips by their nearest training window.

    Raises DataError without a training window, or with less than two blocks (of up to ten windows) held out.
    """
    frames = generated.shape[1]
    memory, blocks = _all_windows(training, frames, _MEMORY_STRIDE_FRAMES), blocks_of(held_out, frames)
    if not len(memory) or len(blocks) < 2:
        raise DataError(
            f"memorisation needs training clips of {frames} frames or more, and held-out clips that make "
            f"two blocks of {frames} to {BLOCK_WINDOWS * frames} frames; got {len(memory)} training windows, "
            f"blocks held out: {len(blocks)}"
        )
    unseen = [_all_windows([block], frames, frames) for block in blocks]
    others = [_all_windows([block], frames, _MEMORY_STRIDE_FRAMES) for block in blocks]
    own = torch.cat([torch.full((len(windows),), number) for number, windows in enumerate(unseen)])
    # Generated windows leave out a block in turn, so that they too find theirs among so many.
    turn = torch.arange(len(generated)) % len(blocks)
    to_memory, ratio = _log_nearest(torch.cat(unseen), memory, others, own)
    of_generated, generated_ratio = _log_nearest(generated.flatten(1).float(), memory, others, turn)
    return Memorisation(
        p_value=_smaller_p_value(of_generated, to_memory),
        copied_p_value=_smaller_p_value(generated_ratio, ratio),
        copied_share=float((generated_ratio < ratio.quantile(0.01)).double().mean()),
        training_windows=len(memory),
        ratios=generated_ratio.exp(),
        held_out_ratios=ratio.exp(),
    )


def _all_windows(clips: Sequence[Tensor], frames: int, stride: int) -> Tensor:
    """Flat windows [N, T * K] at every `stride` frames."""
    cut = [
        clip.float().unfold(0, frames, stride).transpose(1, 2).flatten(1)
        for clip in clips
        if len(clip) >= frames
    ]
    return torch.cat(cut) if cut else torch.empty(0, frames)


def _log_nearest(
    windows: Tensor, memory: Tensor, blocks: Sequence[Tensor], left_out: Tensor
) -> tuple[Tensor, Tensor]:
    """Log of each window's distance to `memory`, and of that over the one to all `blocks` but one [N]."""
    to_memory, *to_blocks = (
        torch.cdist(windows, rows).amin(1).clamp(min=_SAME).log() for rows in (memory, *blocks)
    )
    to_others = torch.stack(to_blocks, 1).scatter(1, left_out[:, None], math.inf).amin(1)
    return to_memory, to_memory - to_others


def _smaller_p_value(a: Tensor, b: Tensor) -> float:
    """Chance that `a` comes out so much smaller than `b` (Mann and Whitney, normal limit)."""
    n, m = len(a), len(b)
    ordered = b.sort().values
    smaller = torch.searchsorted(ordered, a).sum() + torch.searchsorted(ordered, a, right=True).sum()
    u = float(smaller) / 2  # pairs in which b is the smaller one, ties by half
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _spread(windows: Tensor, count: int) -> Tensor:
    """`count` windows spread evenly over all."""
    return windows[torch.linspace(0, len(windows) - 1, count).round().long()]
