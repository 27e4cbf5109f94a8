"""What training measures: differences over time, their covariances, running statistics of the generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.workers import Workers

__all__ = ["ChangeStatistics", "MomentStatistics", "difference", "lag_scale"]

CHANGE_DECAY = 0.995
MOMENT_DECAY = 0.9
MOMENT_LAGS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)
MIN_SCALE = 1e-3


def difference(windows: Tensor, lag: int) -> Tensor:
    """x_t - x_(t - lag) of [N, T, F] as [N, T - lag, F]; lag 0 gives x itself."""
    return windows[:, lag:] - windows[:, : windows.shape[1] - lag] if lag else windows


def lag_scale(coefficients: Tensor, index: WindowIndex, lag: int) -> Tensor:
    """Standard deviation [F] of the footage's differences over `lag` frames, inside windows; 1 for lag 0."""
    if lag == 0:
        return torch.ones_like(coefficients[0])
    first = index.starts.to(coefficients.device)
    return (coefficients[first + lag] - coefficients[first]).std(0) + MIN_SCALE


class ChangeStatistics(nn.Module):
    """Running mean and standard deviation of Delta = l_(T-1) - l_0, over the batches of all workers."""

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
        """Take in a batch of Delta [N, width]; the first batches count as in a plain average."""
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
    """Moments of values and of differences at several lags: the footage's, and running ones of the generator.

    A batch holds too few windows to know its slow moments, and matching its noisy estimates would teach the
    generator to vary less. So a running estimate is compared with the footage, and the batch moves it.
    """

    scales: Tensor  # [L, F]
    footage_mean: Tensor  # [F]
    running_mean: Tensor
    footage: Tensor  # [L, F, F]
    running: Tensor

    def __init__(self, features: int, window: int) -> None:
        super().__init__()
        self.lags = tuple(lag for lag in MOMENT_LAGS if lag < window)
        self.register_buffer("scales", torch.ones(len(self.lags), features))
        for name in ("footage", "running"):
            self.register_buffer(f"{name}_mean", torch.zeros(features))
            self.register_buffer(name, torch.zeros(len(self.lags), features, features))

    def measure(self, coefficients: Tensor, index: WindowIndex) -> None:
        """Take the footage's moments [frames, F]; the running ones start there."""
        first = index.starts.to(coefficients.device)
        self.scales.copy_(torch.stack([lag_scale(coefficients, index, lag) for lag in self.lags]))
        for i, lag in enumerate(self.lags):
            pairs = torch.stack([coefficients[first], coefficients[first + lag]], dim=1)  # [S, 2, F]
            self.footage[i] = self._moment(pairs[:, : 2 if lag else 1], i, lag and 1) / len(first)
        self.footage_mean.copy_(coefficients[first].mean(0))
        self.running.copy_(self.footage)
        self.running_mean.copy_(self.footage_mean)

    def mismatch(self, windows: Tensor, workers: Workers) -> Tensor:
        """A scalar with the gradient of ||mean - mean'||^2 + mean over lags ||moment - moment'||_F^2.

        windows [N, T, F]; the primed are the footage's.
        """
        count = workers.count(len(windows))
        mean = workers.sum(windows.mean(1).sum(0)) / count
        sums = [self._moment(windows, i, lag) for i, lag in enumerate(self.lags)]
        moments = workers.sum(torch.stack(sums)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, 1 - MOMENT_DECAY)
            self.running.lerp_(moments, 1 - MOMENT_DECAY)
        by_mean = ((self.running_mean - self.footage_mean) * mean).sum()
        return 2 * (by_mean + ((self.running - self.footage) * moments).sum() / len(self.lags))

    def _moment(self, windows: Tensor, i: int, lag: int) -> Tensor:
        """Sum over samples of the mean over time of y y^T [F, F], y = differences in units of scale i."""
        y = difference(windows, lag) / self.scales[i]
        rows = y.flatten(0, 1)
        return rows.T @ rows / y.shape[1]
