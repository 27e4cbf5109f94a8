"""Frechet distance between windows of motion, with a floor and controls that show what a value means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svgan_ray.metrics.controls import negative_controls
from svgan_ray.metrics.features import blocks_of, cut_windows, window_features

__all__ = ["FrechetMotion", "frechet_distance", "frechet_motion", "gaussian_distance"]

WINDOWS_PER_FEATURE = 10
LEAST_WINDOWS = 50
LEAST_CONTROL = 5.0
SPLITS = 4
PROJECTIONS = 8


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Frechet distance [...] of Gaussians fitted to the rows of a [..., N, F] and b [..., M, F]."""
    return gaussian_distance(a.mean(-2), _covariance(a), b.mean(-2), _covariance(b))


def gaussian_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """||m_a - m_b||^2 + tr(S_a + S_b - 2 (sqrt(S_a) S_b sqrt(S_a))^(1/2)) (Dowson and Landau, 1982)."""
    variances, vectors = torch.linalg.eigh(cov_a)
    root_a = (vectors * variances.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
    coupling: Tensor = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum(-1)
    return (mean_a - mean_b).square().sum(-1) + _trace(cov_a) + _trace(cov_b) - 2 * coupling


@dataclass(frozen=True)
class FrechetMotion:
    """Distances at one window length; they are valid only if `verdict` is "fit".

    Each one is between `windows` windows of real footage and as many others, in `features` dimensions.
    `floor` is the distance between two halves of the real footage; the other distances are multiples of it.
    """

    window_s: float
    windows: int
    features: int
    floor: float
    floor_spread: float  # standard deviation over the divisions of the footage
    controls: Mapping[str, float] = field(default_factory=dict)
    compared: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """ "fit", or the reason why the distances are not valid."""
        if self.windows < LEAST_WINDOWS:
            return f"not fit: {self.windows} windows a side, {LEAST_WINDOWS} are the least"
        weak = [name for name, floors in self.controls.items() if not floors >= LEAST_CONTROL]
        return f"not fit: {', '.join(weak)} below {LEAST_CONTROL:g} floors" if weak else "fit"


def frechet_motion(
    real: Sequence[Tensor], compared: Mapping[str, Tensor], rate_hz: float, window_s: float
) -> FrechetMotion:
    """Compare real clips [T, K] with sets of windows [N, T_window, K], all in one evaluation basis.

    Real footage is divided into halves of blocks, four times. One half is compared with each set, with the
    other half (the floor) and with the spoilt other half (the controls), with equal counts on all sides.
    Features are standardised by the real ones and projected by 8 random orthonormal matrices to a tenth as
    many dimensions as there are windows; the distance is the mean over these projections. So no direction is
    left out, and no covariance is estimated from too few windows. Footage that is too short for one feature
    gives nan.
    """
    frames = round(window_s * rate_hz)
    blocks = blocks_of(real, frames)
    footage = {"real": cut_windows(blocks, frames), **negative_controls(blocks, frames)}
    halves = [_half(len(blocks), split) for split in range(SPLITS)]
    first = {name: [torch.isin(cut.block, half) for half in halves] for name, cut in footage.items()}
    counts = [int(part.sum()) for rows in first.values() for row in rows for part in (row, ~row)]
    count = min(counts + [len(windows) for windows in compared.values()])
    features = count // WINDOWS_PER_FEATURE
    if features == 0:
        unknown = [dict.fromkeys(names, math.nan) for names in (list(footage)[1:], compared)]
        return FrechetMotion(window_s, count, 0, math.nan, math.nan, *unknown)

    describe = _description(footage["real"].data, rate_hz, features)
    points = describe(footage["real"].data)
    references = [_draw(points, rows, count, split) for split, rows in enumerate(first["real"])]

    def distances(windows: Tensor, chosen: Sequence[Tensor]) -> list[float]:
        points = describe(windows.double())
        samples = [_draw(points, rows, count, split) for split, rows in enumerate(chosen)]
        return [float(frechet_distance(a, b).mean()) for a, b in zip(references, samples, strict=True)]

    floors = distances(footage["real"].data, [~rows for rows in first["real"]])
    floor = statistics.fmean(floors)
    controls, others = {}, {}
    for name in list(footage)[1:]:
        values = distances(footage[name].data, [~rows for rows in first[name]])
        controls[name] = statistics.fmean(values) / floor
    for name, windows in compared.items():
        values = distances(windows, SPLITS * [torch.ones(len(windows), dtype=torch.bool)])
        others[name] = statistics.fmean(values) / floor
    return FrechetMotion(window_s, count, features, floor, statistics.stdev(floors), controls, others)


def _half(blocks: int, split: int) -> Tensor:
    """Numbers of the blocks in the first half of a random division."""
    return torch.randperm(blocks, generator=torch.Generator().manual_seed(split))[: blocks // 2]


def _draw(points: Tensor, chosen: Tensor, count: int, seed: int) -> Tensor:
    """Draw `count` of the chosen [N] windows of points [P, N, F] at random."""
    rows = chosen.nonzero().flatten()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return points[:, rows[order[:count]]]


def _description(real: Tensor, rate_hz: float, features: int) -> Callable[[Tensor], Tensor]:
    """The function from windows [N, T, K] to features, standardised by the real ones, in P projections
    [P, N, F].
    """
    real_features = window_features(real, rate_hz)  # [N, D]
    mean, scale = real_features.mean(0), real_features.std(0).clamp(min=1e-6)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(PROJECTIONS, len(mean), features, generator=generator, dtype=real.dtype)
    orthonormal = torch.linalg.qr(directions).Q  # [P, D, F]
    return lambda windows: ((window_features(windows, rate_hz) - mean) / scale) @ orthonormal


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(-2, keepdim=True)
    return centred.mT @ centred / (x.shape[-2] - 1)


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
