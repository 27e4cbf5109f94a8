"""Statistics for training: differences over time, their covariances, running values of the generator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.workers import Workers

__all__ = ["Difference", "HiddenChangeStatistics", "MomentStatistics"]

CHANGE_DECAY = 0.995
MOMENT_DECAY = 0.9
MIN_SCALE = 1e-3


class Difference(NamedTuple):
    """x_t - x_(t - lag) for order 1, the difference of such differences for order 2, and so on; order 0 is x.

    When a power spectrum falls steeply, its high frequencies are too weak to be seen in values and in first
    differences. Higher orders amplify them: at 25 frames a second, the third order shows 12 Hz 26 dB above 3
    Hz.
    """

    lag: int
    order: int = 1

    @property
    def reach(self) -> int:
        """The number of frames before the first difference."""
        return self.lag * self.order

    def apply(self, windows: Tensor) -> Tensor:
        """Windows [N, T, F] to [N, T - reach, F]."""
        for _ in range(self.order):
            windows = windows[:, self.lag :] - windows[:, : -self.lag]
        return windows

    def of_footage(self, coefficients: Tensor, index: WindowIndex) -> Tensor:
        """The first difference [S, F] in every window of the footage [frames, F]."""
        frames = index.starts[:, None] + torch.arange(0, self.reach + 1, self.lag)  # [S, order + 1]
        return coefficients[frames.to(coefficients.device)].diff(n=self.order, dim=1)[:, 0]

    def scale(self, coefficients: Tensor, index: WindowIndex) -> Tensor:
        """Standard deviation [F] of the footage's differences inside windows; 1 for values."""
        if self.order == 0:
            return torch.ones_like(coefficients[0])
        return self.of_footage(coefficients, index).std(0) + MIN_SCALE


MOMENTS = (
    Difference(1, order=0),
    *(Difference(lag) for lag in (1, 2, 3, 4, 6, 8, 12, 16, 24)),
    *(Difference(1, order) for order in (2, 3)),
)


class HiddenChangeStatistics(nn.Module):
    """Running mean and standard deviation of Delta = l_(T-1) - l_0, over the batches of all workers.

    Delta is the change of the top layer's hidden state over a window. The gradient angle penalty needs both
    statistics.
    """

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, change: Tensor, workers: Workers) -> None:
        """Add a batch of Delta [N, width]; the first batches are weighted as in a plain average."""
        count = workers.count(len(change))
        mean = workers.sum(change.sum(0)) / count
        variance = workers.sum((change - mean).square().sum(0)) / count
        self.updates += 1
        share = (1.0 / self.updates).clamp(min=1 - CHANGE_DECAY).to(change.dtype)
        self.mean.lerp_(mean, share)
        self.variance.lerp_(variance, share)

    @property
    def std(self) -> Tensor:
        return (self.variance + 1e-8).sqrt()


class MomentStatistics(nn.Module):
    """Moments of values and of several differences: the footage's, and the generator's as running estimates.

    One batch holds too few windows to estimate slow moments, and matching such noisy estimates would teach
    the generator to vary less. So a running estimate is compared with the footage, and each batch updates it.
    """

    scales: Tensor  # [D, F]
    footage_mean: Tensor  # [F]
    running_mean: Tensor
    footage: Tensor  # [D, F, F]
    running: Tensor

    def __init__(self, features: int, window: int) -> None:
        super().__init__()
        self.differences = tuple(difference for difference in MOMENTS if difference.reach < window)
        count = len(self.differences)
        self.register_buffer("scales", torch.ones(count, features))
        for name in ("footage", "running"):
            self.register_buffer(f"{name}_mean", torch.zeros(features))
            self.register_buffer(name, torch.zeros(count, features, features))

    def measure(self, coefficients: Tensor, index: WindowIndex) -> None:
        """Measure the moments of the footage [frames, F]; the running moments start at zero."""
        for i, difference in enumerate(self.differences):
            self.scales[i] = difference.scale(coefficients, index)
            rows = difference.of_footage(coefficients, index) / self.scales[i]  # [S, F]
            self.footage[i] = rows.T @ rows / len(rows)
        self.footage_mean.copy_(coefficients[index.starts.to(coefficients.device)].mean(0))

    @property
    def footage_variance(self) -> Tensor:
        """The variance of every coefficient [F]; differences of order 0 are the values themselves."""
        return self.footage[0].diagonal() - self.footage_mean.square()

    def mismatch(self, windows: Tensor, workers: Workers) -> Tensor:
        """A scalar with the gradient of ||mean - mean'||^2 + average of ||moment - moment'||_F^2.

        The mean and the moments are those of windows [N, T, F], the primed ones those of the footage.
        """
        count = workers.count(len(windows))
        mean = workers.sum(windows.mean(1).sum(0)) / count
        moments = (
            workers.sum(torch.stack([self._moment(windows, i) for i in range(len(self.scales))])) / count
        )
        by_mean = ((self.running_mean - self.footage_mean) * mean).sum()
        by_moments = ((self.running - self.footage) * moments).sum() / len(moments)
        # The update comes last: an estimate that already contained this batch would reward smaller motion.
        with torch.no_grad():
            self.running_mean.lerp_(mean, 1 - MOMENT_DECAY)
            self.running.lerp_(moments, 1 - MOMENT_DECAY)
        return 2 * (by_mean + by_moments)

    def _moment(self, windows: Tensor, i: int) -> Tensor:
        """Sum over samples of the mean over time of y y^T [F, F], y = differences in units of scale i."""
        y = self.differences[i].apply(windows) / self.scales[i]
        rows = y.flatten(0, 1)
        return rows.T @ rows / y.shape[1]
