"""The critic: an MLP on every frame, convolutions over time, one score per window."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose1d, pad

from svgan_ray.temporal.frames import FrameLayers, frame_product
from svgan_ray.temporal.recipes import CriticOptions
from svgan_ray.temporal.statistics import Difference

__all__ = ["Critic"]

SLOPE = 0.01
KERNEL, STRIDE, PADDING = 5, 2, 2


class Critic(nn.Module):
    """Windows [N, T, F] of coefficients or flattened style vectors to scores [N].

    The critic sees an observation of a window: the values and, if configured, their differences over time in
    units of the differences' own standard deviation. Penalties on the critic's gradient use the gradient with
    respect to the observation. A penalty with respect to the values alone would keep the critic from seeing
    jitter, which is small in the values.
    """

    scales: Tensor  # [D, F]

    def __init__(self, options: CriticOptions, features: int, window: int) -> None:
        super().__init__()
        self.differences = tuple(Difference(lag) for lag in options.lags)
        self.differences += tuple(Difference(1, order) for order in options.orders)
        self.pooled = options.pooled
        self.register_buffer("scales", torch.ones(len(self.differences), features))
        frame_widths = (features * (1 + len(self.differences)), *options.frame_widths)
        time_widths = (frame_widths[-1], *options.time_widths)
        frame: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(frame_widths):
            frame += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE, inplace=True)]
        time: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(time_widths):
            time += [nn.Conv1d(inputs, outputs, KERNEL, STRIDE, PADDING), nn.LeakyReLU(SLOPE, inplace=True)]
            window = -(-window // STRIDE)
        self.frame = FrameLayers(*frame)
        self.time = nn.Sequential(*time)
        self.last = nn.Linear(time_widths[-1] * (1 if self.pooled else window), 1)

    def forward(self, windows: Tensor) -> Tensor:
        return self.score(self.observe(windows))

    def observe(self, windows: Tensor) -> Tensor:
        """Windows [N, T, F] to [N, T, F * (1 + D)]; a difference that needs frames before the window is 0."""
        scaled = zip(self.differences, self.scales.unbind(), strict=True)
        differences = [pad(d.apply(windows) / scale, (0, 0, d.reach, 0)) for d, scale in scaled]
        return torch.cat([windows, *differences], dim=-1)

    def score(self, observed: Tensor) -> Tensor:
        """Observations [N, T, C] to scores [N]."""
        over_time = self.time(self.frame(observed).transpose(1, 2))  # [N, C, T']
        pooled = over_time.mean(-1) if self.pooled else over_time.flatten(1)
        score: Tensor = self.last(pooled)
        return score.squeeze(-1)

    def slopes(self, observed: Tensor) -> Tensor:
        """The gradient [N, T, C] of each score with respect to its observation [N, T, C].

        The critic is piecewise linear, so its gradient is a product of its weights, masked by which units are
        active. This method computes that product directly. A penalty on the product needs first derivatives
        only; autograd's second derivatives would also compute the activations' curvature, which is zero.
        """
        frame, time = self.activations(observed)
        share = time[-1].shape[-1] if self.pooled else 1
        weights = self.last.weight / share
        slope = weights[..., None].expand_as(time[-1]) if self.pooled else weights.view_as(time[-1][:1])
        lengths = [observed.shape[1], *(active.shape[-1] for active in time)]
        for conv, active, length in zip(
            list(self.time)[-2::-2], reversed(time), lengths[-2::-1], strict=True
        ):
            spare = length - (active.shape[-1] * STRIDE - STRIDE + 1)
            weight, slope = conv.get_parameter("weight"), _through(slope, active)
            slope = conv_transpose1d(slope, weight, None, STRIDE, PADDING, output_padding=spare)
        slope = slope.transpose(1, 2)
        for linear, active in zip(list(self.frame)[-2::-2], reversed(frame), strict=True):
            slope = frame_product(_through(slope, active), linear.get_parameter("weight"))
        return slope

    @torch.no_grad()
    def activations(self, observed: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The activations of the MLP's layers [N, T, width] and those of the convolutions [N, width, T']."""
        frame, time = self.frame.outputs(observed), []
        x = frame[-1].transpose(1, 2)
        for layer in self.time:
            x = layer(x)
            time.append(x)
        return frame[1::2], time[1::2]


def _through(slope: Tensor, active: Tensor) -> Tensor:
    """Turn a gradient with respect to a LeakyReLU's output into one with respect to its input."""
    result: Tensor = torch.ops.aten.leaky_relu_backward(slope.expand_as(active), active, SLOPE, False)
    return result
