"""The critic: an MLP on every frame, convolutions over time, one score per window."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from svgan_ray.temporal.recipes import CriticOptions

__all__ = ["Critic"]

SLOPE = 0.01
STRIDE = 2


class Critic(nn.Module):
    """Windows [N, T, F] of coefficients or flattened style vectors to scores [N]."""

    def __init__(self, options: CriticOptions, features: int, window: int) -> None:
        super().__init__()
        self.lags = options.lags
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
        self.score = nn.Linear(time_widths[-1] * window, 1)

    def forward(self, windows: Tensor) -> Tensor:
        differences = [_difference(windows, lag) for lag in self.lags]
        frames = self.frame(torch.cat([windows, *differences], dim=-1))  # [N, T, C]
        score: Tensor = self.score(self.time(frames.transpose(1, 2)).flatten(1))
        return score.squeeze(-1)


def _difference(windows: Tensor, lag: int) -> Tensor:
    """x_t - x_(t - lag), zero for the first `lag` frames."""
    return nn.functional.pad(windows[:, lag:] - windows[:, :-lag], (0, 0, lag, 0))
