"""The critic: an MLP on every frame, convolutions over time, one score per window."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from svgan_ray.temporal.recipes import CriticOptions
from svgan_ray.temporal.statistics import difference

__all__ = ["Critic"]

SLOPE = 0.01
STRIDE = 2


class Critic(nn.Module):
    """Windows [N, T, F] of coefficients or flattened style vectors to scores [N].

    It sees an observation of a window: the values and, if asked, differences over time in units of their own
    standard deviation. Penalties on the critic's gradient are taken with respect to the observation; with
    respect to the values alone they would keep it from seeing jitter, which is small in values.
    """

    scales: Tensor  # [lags, F]

    def __init__(self, options: CriticOptions, features: int, window: int) -> None:
        super().__init__()
        self.lags, self.pooled = options.lags, options.pooled
        self.register_buffer("scales", torch.ones(len(self.lags), features))
        frame_widths = (features * (1 + len(self.lags)), *options.frame_widths)
        time_widths = (frame_widths[-1], *options.time_widths)
        frame: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(frame_widths):
            frame += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        time: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(time_widths):
            time += [nn.Conv1d(inputs, outputs, 5, STRIDE, padding=2), nn.LeakyReLU(SLOPE)]
            window = -(-window // STRIDE)
        self.frame = nn.Sequential(*frame)
        self.time = nn.Sequential(*time)
        self.last = nn.Linear(time_widths[-1] * (1 if self.pooled else window), 1)

    def forward(self, windows: Tensor) -> Tensor:
        return self.score(self.observe(windows))

    def observe(self, windows: Tensor) -> Tensor:
        """Windows [N, T, F] to [N, T, F * (1 + lags)]; a difference is zero for the first `lag` frames."""
        scaled = zip(self.lags, self.scales.unbind(), strict=True)
        differences = [pad(difference(windows, lag) / scale, (0, 0, lag, 0)) for lag, scale in scaled]
        return torch.cat([windows, *differences], dim=-1)

    def score(self, observed: Tensor) -> Tensor:
        """Observations [N, T, C] to scores [N]."""
        over_time = self.time(self.frame(observed).transpose(1, 2))  # [N, C, T']
        pooled = over_time.mean(-1) if self.pooled else over_time.flatten(1)
        score: Tensor = self.last(pooled)
        return score.squeeze(-1)
