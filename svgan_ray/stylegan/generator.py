"""StyleGAN2 generator: mapping z -> w, synthesis w_plus -> image.

Parameter names and results are those of NVIDIA's networks (Karras et al., "Analyzing and Improving the Image
Quality of StyleGAN", CVPR 2020; skip architecture), in plain torch operations: any device, with gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.errors import ConfigError, DataError

__all__ = ["Generator", "GeneratorConfig", "NoiseMode", "StyledConv"]

NoiseMode = Literal["const", "none", "random"]

_NEGATIVE_SLOPE = 0.2
_ACTIVATION_GAIN = math.sqrt(2)
# On a CPU, feature maps too large for the cache and for the allocator's reuse cost more than a convolution.
_CACHED_BYTES = 2**24


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator; `conv_clamp` limits activations, for networks trained in half precision."""

    resolution: int
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    channel_base: int = 32768
    channel_max: int = 512
    img_channels: int = 3
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ConfigError(
                f"generator resolution: expected a power of two of 8 or more, got {self.resolution}"
            )
        if self.channels(self.resolution) < 1:
            raise ConfigError(
                f"generator channel_base: expected {self.resolution} or more, got {self.channel_base}"
            )

    @property
    def num_ws(self) -> int:
        """Number of style vectors in w_plus."""
        return 2 * len(self.block_resolutions)

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Side of every block's output: 4, 8, ... resolution."""
        return tuple(2**power for power in range(2, self.resolution.bit_length()))

    def channels(self, resolution: int) -> int:
        """Feature channels at one resolution."""
        return min(self.channel_base // resolution, self.channel_max)


class Generator(nn.Module):
    """`mapping(z) -> w_plus`, `synthesis(w_plus) -> image`; the state_dict has NVIDIA's key names."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)


class Mapping(nn.Module):
    """Pixel norm and fully connected layers: z -> w, repeated for every layer."""

    w_avg: Tensor  # [w_dim]

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.z_dim = config.z_dim
        self.num_ws = config.num_ws
        for index in range(config.mapping_layers):
            in_features = config.z_dim if index == 0 else config.w_dim
            layer = FullyConnected(in_features, config.w_dim, lr_multiplier=config.mapping_lr_multiplier)
            self.add_module(f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """z [N, z_dim] -> w_plus [N, num_ws, w_dim]; truncation < 1 draws w towards w_avg."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise DataError(f"mapping: expected z of shape [N, {self.z_dim}], got {list(z.shape)}")
        w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.children():
            w = F.leaky_relu(layer(w), _NEGATIVE_SLOPE) * _ACTIVATION_GAIN
        if truncation != 1.0:
            w = self.w_avg.lerp(w, truncation)
        return w.unsqueeze(1).repeat(1, self.num_ws, 1)


class Synthesis(nn.Module):
    """Blocks of rising resolution; each adds its ToRGB to the upsampled picture of the blocks before."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        for resolution in config.block_resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(config, resolution))

    def forward(self, w_plus: Tensor, noise: NoiseMode = "const", resolution: int | None = None) -> Tensor:
        """w_plus [N, num_ws, w_dim] -> images [N, 3, R, R], about [-1, 1] but not clipped.

        `noise`: "const" (the stored pattern), "none", or "random" (from torch's global generator).
        With `resolution`, synthesis stops early, at the picture of that block (R = resolution).
        """
        self._check(w_plus, noise, resolution)
        sides = [
            side for side in self.config.block_resolutions if side <= (resolution or self.config.resolution)
        ]
        return self._blocks(sides, None, None, w_plus, noise)

    def _blocks(
        self,
        sides: list[int],
        features: Tensor | None,
        image: Tensor | None,
        w_plus: Tensor,
        noise: NoiseMode,
    ) -> Tensor:
        """Run the blocks of these sides, starting from the features and the image of the block before."""
        for position, side in enumerate(sides):
            if features is not None and image is not None and self._too_large(features, side):
                samples = zip(features.split(1), image.split(1), w_plus.split(1), strict=True)
                return torch.cat([self._blocks(sides[position:], *sample, noise) for sample in samples])
            # A block's last style (for ToRGB) is the next block's first; the first block has one layer less.
            index = self.config.block_resolutions.index(side)
            styles = w_plus[:, max(2 * index - 1, 0) : 2 * index + 2].unbind(dim=1)
            features, image = self.get_submodule(f"b{side}")(features, image, styles, noise)
        assert image is not None
        return image

    def _too_large(self, features: Tensor, side: int) -> bool:
        """Whether a block should take one sample at a time."""
        if features.device.type != "cpu" or len(features) == 1:
            return False
        values = len(features) * self.config.channels(side) * side**2
        return values * features.element_size() > _CACHED_BYTES

    def _check(self, w_plus: Tensor, noise: str, resolution: int | None) -> None:
        expected = (self.config.num_ws, self.config.w_dim)
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != expected:
            raise DataError(
                f"synthesis: expected w_plus [N, {expected[0]}, {expected[1]}], got {list(w_plus.shape)}"
            )
        if noise not in get_args(NoiseMode):
            raise ConfigError(f"synthesis: expected noise to be one of {get_args(NoiseMode)}, got {noise!r}")
        if resolution is not None and resolution not in self.config.block_resolutions:
            raise ConfigError(
                f"synthesis: expected resolution in {self.config.block_resolutions}, got {resolution}"
            )


class SynthesisBlock(nn.Module):
    """One resolution: upsampling convolution, convolution, ToRGB. The first block starts from a constant."""

    def __init__(self, config: GeneratorConfig, resolution: int) -> None:
        super().__init__()
        channels = config.channels(resolution)
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(channels, resolution, resolution))
        else:
            self.conv0 = StyledConv(config, config.channels(resolution // 2), resolution, upsample=True)
        self.conv1 = StyledConv(config, channels, resolution)
        self.torgb = ToRGB(config, channels)

    def forward(
        self, features: Tensor | None, image: Tensor | None, styles: tuple[Tensor, ...], noise: NoiseMode
    ) -> tuple[Tensor, Tensor]:
        """Features [N, C, R/2, R/2], image [N, 3, R/2, R/2], styles each [N, w_dim] -> both at side R."""
        if features is None:
            features = self.const.expand(len(styles[0]), -1, -1, -1)
            # All later layers keep this memory layout: convolutions run faster in it, and FIRs far faster.
            features = features.contiguous(memory_format=torch.channels_last)
        else:
            features = self.conv0(features, styles[0], noise)
        features = self.conv1(features, styles[-2], noise)
        rgb = self.torgb(features, styles[-1])
        return features, rgb if image is None else _upsample_image(image) + rgb


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU, clamp."""

    noise_const: Tensor  # [R, R]

    def __init__(
        self, config: GeneratorConfig, in_channels: int, resolution: int, upsample: bool = False
    ) -> None:
        super().__init__()
        out_channels = config.channels(resolution)
        self.upsample = upsample
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode) -> Tensor:
        """x [N, I, H, H], w [N, w_dim] -> [N, O, R, R] with R = 2H if upsampling, else H."""
        style = self.affine(w)  # [N, I]
        # The activation's gain is positive, so it commutes with leaky ReLU; applied before, it is free.
        x = self._convolve_one(x, style) if len(x) == 1 else self._convolve(x, style)
        if noise != "none":
            pattern = self.noise_const if noise == "const" else x.new_empty(len(x), 1, *x.shape[2:]).normal_()
            x.add_(pattern * (self.noise_strength * _ACTIVATION_GAIN))
        return _clamp(F.leaky_relu(x, _NEGATIVE_SLOPE, inplace=True), self.clamp)

    def _convolve(self, x: Tensor, style: Tensor) -> Tensor:
        """Several samples: scaling input and output of one shared convolution equals a kernel per sample."""
        demodulation = (style.square() @ self.weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()  # [N, O]
        x = self._resampled(x * style[:, :, None, None], self.weight)
        x = x * (demodulation * _ACTIVATION_GAIN)[:, :, None, None]
        return x.add_(self.bias[:, None, None] * _ACTIVATION_GAIN)

    def _convolve_one(self, x: Tensor, style: Tensor) -> Tensor:
        """One sample: modulate the kernel itself, which is smaller than the feature maps."""
        kernel = self.weight * style[:, :, None, None]  # [O, I, 3, 3]
        demodulation = (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()  # [O, 1, 1, 1]
        return self._resampled(x, kernel * (demodulation * _ACTIVATION_GAIN), self.bias * _ACTIVATION_GAIN)

    def _resampled(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.upsample:
            return _upsampling_conv(x, kernel, bias)
        return F.conv2d(x, kernel, bias, padding=1)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to a picture, without demodulation."""

    def __init__(self, config: GeneratorConfig, in_channels: int) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N, C, R, R], w [N, w_dim] -> [N, 3, R, R]."""
        style = self.affine(w) / math.sqrt(self.weight.shape[1])  # [N, C]
        weight = self.weight[None, :, :, 0, 0] * style[:, None, :]  # [N, 3, C]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # [N, R * R, C], a view: channels are last in memory
        rgb = torch.baddbmm(self.bias, pixels, weight.mT)  # [N, R * R, 3]
        return _clamp(rgb.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2), self.clamp)


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate: gains are applied at run time."""

    def __init__(
        self, in_features: int, out_features: int, bias_init: float = 0.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))

    def forward(self, x: Tensor) -> Tensor:
        """x [N, in_features] -> [N, out_features]."""
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


def _clamp(x: Tensor, limit: float | None) -> Tensor:
    if limit is None:
        return x
    return x.clamp(-limit, limit) if x.requires_grad else x.clamp_(-limit, limit)


def _fir(like: Tensor) -> Tensor:
    """The [4, 4] binomial low-pass filter with gain 4, which compensates the inserted zeros."""
    # The filter is created on the device: a copy from the host would stall a GPU and break its graphs.
    taps = 4 - 2 * (torch.arange(4, dtype=like.dtype, device=like.device) - 1.5).abs()  # 1, 3, 3, 1
    return torch.outer(taps, taps) / 16


def _upsampling_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution, then the FIR: x [N, I, H, H], weight [O, I, 3, 3] -> [N, O, 2H, 2H]."""
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N, O, 2H + 1, 2H + 1]
    channels = x.shape[1]
    return F.conv2d(x, _fir(x).expand(channels, 1, 4, 4), bias, padding=1, groups=channels)


def _upsample_image(image: Tensor) -> Tensor:
    """Zero insertion, then the FIR: [N, 3, H, H] -> [N, 3, 2H, 2H]."""
    channels = image.shape[1]
    kernel = _fir(image).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=channels)
