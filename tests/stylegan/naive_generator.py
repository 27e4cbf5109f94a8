"""StyleGAN2's generator once more, naive and in float64: a kernel per sample, zeros inserted, tap by tap.

Written from the format's description alone and sharing no code with svgan_ray: the fast one is judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


class NaiveGenerator:
    """Runs a state_dict with NVIDIA's key names; `scaled` divides before demodulation, as rosinality does."""

    def __init__(
        self,
        state: Mapping[str, Tensor],
        clamp: float | None = None,
        lr_multiplier: float = 0.01,
        scaled: bool = False,
    ) -> None:
        self.scaled = scaled
        self.state = {key: value.detach().double().numpy() for key, value in state.items()}
        self.clamp = clamp
        self.lr_multiplier = lr_multiplier
        self.resolutions = [
            2**power for power in range(2, 11) if f"synthesis.b{2**power}.conv1.weight" in self.state
        ]

    def mapping(self, z: Array, truncation: float = 1.0) -> Array:
        x = z / np.sqrt((z**2).mean(axis=1, keepdims=True) + 1e-8)
        layer = 0
        while f"mapping.fc{layer}.weight" in self.state:
            x = leaky_relu(self.linear(f"mapping.fc{layer}", x, self.lr_multiplier))
            layer += 1
        average = self.state["mapping.w_avg"]
        w = average + truncation * (x - average)
        return np.stack([w] * (2 * len(self.resolutions)), axis=1)

    def synthesis(self, w_plus: Array, with_noise: bool = True, stop: int | None = None) -> Array:
        x = np.stack([self.state["synthesis.b4.const"]] * len(w_plus))
        image: Array | None = None
        style = 0
        for resolution in self.resolutions:
            name = f"synthesis.b{resolution}"
            if resolution > 4:
                x = self.styled_conv(f"{name}.conv0", x, w_plus[:, style], with_noise, upsample=True)
                style += 1
            x = self.styled_conv(f"{name}.conv1", x, w_plus[:, style], with_noise, upsample=False)
            style += 1
            rgb = self.to_rgb(f"{name}.torgb", x, w_plus[:, style])  # this style is the next block's first
            image = rgb if image is None else fir_upsample(image) + rgb
            if resolution == stop:
                break
        assert image is not None
        return image

    def linear(self, name: str, x: Array, lr_multiplier: float = 1.0) -> Array:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return x @ (weight * lr_multiplier / np.sqrt(weight.shape[1])).T + bias * lr_multiplier

    def styled_conv(self, name: str, x: Array, w: Array, with_noise: bool, upsample: bool) -> Array:
        style = self.linear(f"{name}.affine", w)
        outputs = []
        for sample, scale in zip(x, style, strict=True):
            kernel = self.state[f"{name}.weight"] * scale[None, :, None, None]
            if self.scaled:
                kernel = kernel / np.sqrt(kernel[0].size)
            kernel /= np.sqrt((kernel**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
            if upsample:
                # Resample first, with the border that the kernel uses up; then convolve, not correlate.
                outputs.append(correlate(fir_upsample(sample[None], border=1)[0], kernel[:, :, ::-1, ::-1]))
            else:
                outputs.append(correlate(np.pad(sample, ((0, 0), (1, 1), (1, 1))), kernel))
        x = np.stack(outputs)
        if with_noise:
            x = x + self.state[f"{name}.noise_const"] * self.state[f"{name}.noise_strength"]
        x = leaky_relu(x + self.state[f"{name}.bias"][None, :, None, None])
        return self.clamped(x)

    def to_rgb(self, name: str, x: Array, w: Array) -> Array:
        weight = self.state[f"{name}.weight"]
        style = self.linear(f"{name}.affine", w) / np.sqrt(weight.shape[1])
        rgb = np.einsum("oi,ni,nihw->nohw", weight[:, :, 0, 0], style, x, optimize=True)
        return self.clamped(rgb + self.state[f"{name}.bias"][None, :, None, None])

    def clamped(self, x: Array) -> Array:
        return x if self.clamp is None else np.clip(x, -self.clamp, self.clamp)


def leaky_relu(x: Array) -> Array:
    return np.where(x >= 0, x, 0.2 * x) * np.sqrt(2)


def correlate(x: Array, kernel: Array) -> Array:
    """x [I, H, W], kernel [O, I, 3, 3] -> [O, H - 2, W - 2]."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    out = np.zeros((len(kernel), height, width))
    for row in range(3):
        for column in range(3):
            shifted = x[:, row : row + height, column : column + width]
            out += np.tensordot(kernel[:, :, row, column], shifted, axes=1)
    return out


def fir_upsample(x: Array, border: int = 0) -> Array:
    """A zero after every sample, then taps [1, 3, 3, 1] with gain 4: side H -> 2H + 2 border."""
    samples, channels, height, width = x.shape
    stretched = np.zeros((samples, channels, 2 * height, 2 * width))
    stretched[:, :, ::2, ::2] = x
    before, after = 2 + border, 1 + border
    padded = np.pad(stretched, ((0, 0), (0, 0), (before, after), (before, after)))
    taps = np.array([1.0, 3.0, 3.0, 1.0]) / 8
    height, width = padded.shape[2] - 3, padded.shape[3] - 3
    out = np.zeros((samples, channels, height, width))
    for row in range(4):
        for column in range(4):
            tap = 4 * taps[3 - row] * taps[3 - column]
            out += tap * padded[:, :, row : row + height, column : column + width]
    return out


def randomised(module: torch.nn.Module, seed: int) -> None:
    """Give what starts as a constant something to show: biases, noise strengths, w_avg."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith(("bias", "noise_strength", "w_avg")):
                scale = 10.0 if key.startswith("mapping.fc") else 0.3
                tensor += torch.randn(tensor.shape, generator=generator) * scale
