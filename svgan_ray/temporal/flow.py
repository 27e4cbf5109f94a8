"""The flow generator: windows of motion by flow matching, each continued from the end of the one before.

After Lipman et al., "Flow Matching for Generative Modeling" (2023): noise moves to motion along lines, and
sampling follows their velocity in a few steps. The network estimates where a line ends, that is the motion
itself, and not the velocity: motion is smooth and noise is not, so its estimate can be smooth, too. A window
may begin with given frames, so long motion is made block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from svgan_ray.temporal.recipes import FlowOptions
from svgan_ray.temporal.state import MotionGenerator

__all__ = ["FlowGenerator", "MotionNetwork"]

_CONDITION_WIDTH = 64
_FREQUENCIES = 16
_HIGHEST_FREQUENCY = 100.0
_DILATIONS = (1, 2, 4, 8, 16)
_KERNEL = 3


class MotionNetwork(nn.Module):
    """Estimates motion x_1 [N, T, F] from x_t [N, T, F] at times t [N], from 0 (noise) to 1 (motion).

    `is_given` [N, T] marks the frames of x_t that are motion already.
    Each block is a gated dilated convolution over time, scaled and shifted as t demands.
    """

    def __init__(self, options: FlowOptions, features: int) -> None:
        super().__init__()
        width = options.width
        self.time = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, _CONDITION_WIDTH),
            nn.SiLU(),
            nn.Linear(_CONDITION_WIDTH, _CONDITION_WIDTH),
            nn.SiLU(),
        )
        self.first = nn.Linear(features + 1, width)
        dilations = [_DILATIONS[i % len(_DILATIONS)] for i in range(options.blocks)]
        self.blocks = nn.ModuleList(_GatedBlock(width, dilation) for dilation in dilations)
        self.last = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), _zeroed(nn.Linear(width, features))
        )

    def forward(self, x: Tensor, is_given: Tensor, t: Tensor) -> Tensor:
        frequencies = torch.logspace(
            0, 1, _FREQUENCIES, base=_HIGHEST_FREQUENCY, device=t.device, dtype=t.dtype
        )
        angles = t[:, None] * frequencies
        condition = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        hidden = self.first(torch.cat([x, is_given[:, :, None]], 2))
        for block in self.blocks:
            hidden = block(hidden, condition)
        motion: Tensor = self.last(hidden)
        return motion


class _GatedBlock(nn.Module):
    """A residual block on [N, T, width]: normalise, modulate, convolve over time, gate."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        # With the channels last, a convolution in two dimensions is twice as fast on CPUs as one in one.
        self.convolution = nn.Conv2d(
            width, 2 * width, (1, _KERNEL), padding=(0, dilation), dilation=(1, dilation)
        )
        self.modulation = _zeroed(nn.Linear(_CONDITION_WIDTH, 2 * width))
        self.mix = nn.Linear(width, width)
        nn.init.normal_(self.mix.weight, std=1e-3)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, None].chunk(2, -1)
        x = functional.layer_norm(hidden, hidden.shape[-1:]) * (1 + scale) + shift
        x = self.convolution(x[:, None].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[:, 0]
        value, gate = x.chunk(2, -1)
        out: Tensor = hidden + self.mix(value.tanh() * gate.sigmoid())
        return out


class FlowGenerator(MotionGenerator):
    """Endless motion from noise: a window, then block after block, each after the last frames before it."""

    def __init__(self, options: FlowOptions, features: int, window_frames: int) -> None:
        super().__init__()
        self.options = options
        self.noise_dim = features
        self.block_frames = window_frames - options.given_frames
        self.network = MotionNetwork(options, features)

    @torch.no_grad()
    def stream(self, noise_from: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
        """Features [N, t, F] from frame 0 on; `noise_from(start, count)` gives noise [N, count, F].

        The first block, in which nothing is given, is not shown: it warms up.
        """
        start = -self.block_frames
        motion = self._solve(noise_from(start, self.block_frames), None)
        while True:
            start += self.block_frames
            given = motion[:, -self.options.given_frames :]
            motion = self._solve(noise_from(start, self.block_frames), given)
            yield motion

    def _solve(self, noise: Tensor, given: Tensor | None) -> Tensor:
        """Move noise [N, T, F] to motion after the frames `given` [N, P, F], by equal midpoint steps."""
        before = noise[:, :0] if given is None else given
        is_given = torch.zeros(len(noise), before.shape[1] + noise.shape[1], device=noise.device)
        is_given[:, : before.shape[1]] = 1

        def velocity(x: Tensor, t: float) -> Tensor:
            times = torch.full((len(x),), t, device=x.device, dtype=x.dtype)
            motion: Tensor = self.network(torch.cat([before, x], 1), is_given, times)
            return (motion[:, before.shape[1] :] - x) / (1 - t)

        x, step = noise, 1 / self.options.solver_steps
        for i in range(self.options.solver_steps):
            middle = x + step / 2 * velocity(x, i * step)
            x = x + step * velocity(middle, (i + 0.5) * step)
        return x


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
