"""The pSp, e4e and ReStyle encoders once more, naive and in float64, from the format's description alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from .naive_generator import Array

COARSE, MIDDLE = range(0, 3), range(3, 7)


class NaiveEncoder:
    """Runs a state_dict with the original key names; `units` are the residual units a stage."""

    def __init__(self, state: Mapping[str, Tensor], units: tuple[int, ...]) -> None:
        self.state = {key: value.detach().double().numpy() for key, value in state.items()}
        self.units = units
        self.num_ws = len({key.split(".")[1] for key in self.state if key.startswith("styles.")})

    def psp(self, images: Array) -> Array:
        coarse, middle, fine = self.pyramid(images)
        styles = [
            self.head(i, coarse if i in COARSE else middle if i in MIDDLE else fine)
            for i in range(self.num_ws)
        ]
        return np.stack(styles, axis=1) + self.state["w_avg"]

    def e4e(self, images: Array) -> Array:
        coarse, middle, fine = self.pyramid(images)
        w = np.repeat(self.head(0, coarse)[:, None], self.num_ws, axis=1)
        for i in range(1, self.num_ws):
            w[:, i] += self.head(i, coarse if i in COARSE else middle if i in MIDDLE else fine)
        return w + self.state["w_avg"]

    def restyle(
        self,
        images: Array,
        synthesis: Callable[[Array], Array],
        iterations: int = 5,
        shares_first_style: bool = False,
    ) -> Array:
        w = np.stack([self.state["w_avg"]] * len(images))
        for _ in range(iterations):
            picture = average_pool(synthesis(w), images.shape[-1])
            top = self.stages(np.concatenate([images, picture], axis=1))[3]
            for i in range(self.num_ws):
                w[:, i] += self.head(i, top)
                if shares_first_style and i > 0:
                    w[:, i] += self.head(0, top)
        return w

    def pyramid(self, images: Array) -> tuple[Array, Array, Array]:
        _, c1, c2, c3 = self.stages(images)
        p2 = stretch(c3) + self.conv("latlayer1", c2)
        p1 = stretch(p2) + self.conv("latlayer2", c1)
        return c3, p2, p1

    def stages(self, x: Array) -> list[Array]:
        if "conv1.weight" in self.state:
            return self.resnet_stages(x)
        x = self.prelu("input_layer.2", self.norm("input_layer.1", self.conv("input_layer.0", x, pad=1)))
        stages, number = [], 0
        for count in self.units:
            for index in range(count):
                x = self.unit(f"body.{number}", x, stride=2 if index == 0 else 1)
                number += 1
            stages.append(x)
        return stages

    def resnet_stages(self, x: Array) -> list[Array]:
        x = self.prelu("relu", self.norm("bn1", self.conv("conv1", x, stride=2, pad=3)))
        stages, number = [], 0
        for stage, count in enumerate(self.units):
            for index in range(count):
                x = self.resnet_unit(f"body.{number}", x, stride=2 if stage > 0 and index == 0 else 1)
                number += 1
            stages.append(x)
        return stages

    def resnet_unit(self, name: str, x: Array, stride: int) -> Array:
        shortcut = x
        if f"{name}.downsample.0.weight" in self.state:
            shortcut = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
        x = np.maximum(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride, pad=1)), 0)
        x = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", x, pad=1))
        return np.maximum(x + shortcut, 0)

    def unit(self, name: str, x: Array, stride: int) -> Array:
        shortcut = x[:, :, ::stride, ::stride]
        if f"{name}.shortcut_layer.0.weight" in self.state:
            shortcut = self.norm(f"{name}.shortcut_layer.1", self.conv(f"{name}.shortcut_layer.0", x, stride))
        x = self.norm(f"{name}.res_layer.0", x)
        x = self.prelu(f"{name}.res_layer.2", self.conv(f"{name}.res_layer.1", x, pad=1))
        x = self.norm(f"{name}.res_layer.4", self.conv(f"{name}.res_layer.3", x, stride, pad=1))
        gate = np.maximum(self.conv(f"{name}.res_layer.5.fc1", x.mean(axis=(2, 3), keepdims=True)), 0)
        gate = 1 / (1 + np.exp(-self.conv(f"{name}.res_layer.5.fc2", gate)))
        return x * gate + shortcut

    def head(self, style: int, x: Array) -> Array:
        layer = 0
        while x.shape[-1] > 1:
            x = self.conv(f"styles.{style}.convs.{layer}", x, stride=2, pad=1)
            x = np.where(x >= 0, x, 0.01 * x)
            layer += 2
        weight, bias = self.state[f"styles.{style}.linear.weight"], self.state[f"styles.{style}.linear.bias"]
        return x[:, :, 0, 0] @ weight.T / np.sqrt(weight.shape[1]) + bias

    def conv(self, name: str, x: Array, stride: int = 1, pad: int = 0) -> Array:
        weight = self.state[f"{name}.weight"]
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        size = weight.shape[-1]
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[
            :, :, ::stride, ::stride
        ]
        out = np.einsum("nihwkl,oikl->nohw", windows, weight, optimize=True)
        return out + self.state[f"{name}.bias"][:, None, None] if f"{name}.bias" in self.state else out

    def norm(self, name: str, x: Array) -> Array:
        mean, variance, gain, bias = (
            self.state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gain + bias

    def prelu(self, name: str, x: Array) -> Array:
        return np.where(x >= 0, x, self.state[f"{name}.weight"][:, None, None] * x)


def stretch(x: Array) -> Array:
    """Twice the side, bilinear, the corner pixels staying in the corners."""
    side = x.shape[-1]
    position = np.arange(2 * side) * (side - 1) / (2 * side - 1)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(side)))  # [2 side, side]
    return np.einsum("ai,bj,ncij->ncab", weights, weights, x, optimize=True)


def average_pool(x: Array, side: int) -> Array:
    step = x.shape[-1] // side
    return x.reshape(*x.shape[:2], side, step, side, step).mean(axis=(3, 5))


def randomised_norms(module: torch.nn.Module, seed: int) -> None:
    """Statistics and gains as training would leave them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(part, torch.nn.PReLU):
                part.weight.uniform_(0, 0.5, generator=generator)
