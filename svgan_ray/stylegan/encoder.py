"""Encoders image -> w_plus: pSp, e4e and ReStyle, with an IR-SE50 backbone or (ReStyle only) a ResNet-34.

Parameter names and results are those of the original networks: pSp (Richardson et al., "Encoding in Style",
CVPR 2021), e4e (Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021), ReStyle
(Alaluf et al., "ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement", ICCV 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.errors import ConfigError, DataError
from svgan_ray.stylegan.resize import resize_antialiased
from svgan_ray.stylegan.resnet import resnet_stem, resnet_units

__all__ = ["Backbone", "Encoder", "EncoderConfig", "EncoderKind", "residual_units", "stem"]

EncoderKind = Literal["psp", "e4e", "restyle", "restyle_e4e"]
Backbone = Literal["ir_se50", "resnet34"]

_FIRST_MIDDLE_STYLE = 3
_FIRST_FINE_STYLE = 7
_RESTYLE_ITERATIONS = 5
# Synthesis exceeds [-1, 1] by a few units at most; 8-bit pixels and NaN are beyond this limit.
_LARGEST_INPUT = 16.0


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder; the defaults are those of the published 256 px face encoders.

    `widths` and `units` are the channels and the residual units of the four stages, and `head_width` is the
    number of channels inside a style head. `backbone` is the type of the stages: ReStyle uses IR-SE50 for
    faces and a ResNet-34 for everything else; pSp and e4e use IR-SE50 only.
    """

    kind: EncoderKind
    num_ws: int
    w_dim: int = 512
    input_side: int = 256
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    units: tuple[int, int, int, int] = (3, 4, 14, 3)
    stem_width: int = 64
    head_width: int = 512
    backbone: Backbone = field(default="ir_se50", metadata={"omit_default": True})

    def __post_init__(self) -> None:
        if self.kind not in get_args(EncoderKind):
            raise ConfigError(f"encoder kind: expected one of {get_args(EncoderKind)}, got {self.kind!r}")
        if self.backbone not in get_args(Backbone) or (self.backbone == "resnet34" and not self.iterates):
            raise ConfigError(
                f"encoder backbone: expected 'ir_se50' or, of ReStyle, 'resnet34', got {self.backbone!r}"
            )
        if self.input_side < 32 or self.input_side & (self.input_side - 1):
            raise ConfigError(
                f"encoder input_side: expected a power of two of 32 or more, got {self.input_side}"
            )
        if min(self.widths) < 16:
            raise ConfigError(
                f"encoder widths: expected at least 16 channels (squeeze ratio 16), got {self.widths}"
            )

    @property
    def iterates(self) -> bool:
        """Whether the encoder corrects its answer with the picture of that answer (ReStyle)."""
        return self.kind.startswith("restyle")

    @property
    def shares_first_style(self) -> bool:
        """Whether style 0 is common to all layers and the others are differences to it (e4e)."""
        return self.kind.endswith("e4e")

    @property
    def input_channels(self) -> int:
        """Three channels of the image and, if the encoder iterates, three of its last answer's picture."""
        return 6 if self.iterates else 3

    def map_side(self, style: int) -> int:
        """Side of the feature map that the head of one style reads."""
        if self.iterates or style < _FIRST_MIDDLE_STYLE:
            return self.input_side // 16
        return self.input_side // (8 if style < _FIRST_FINE_STYLE else 4)


class Encoder(nn.Module):
    """`encode(images) -> w_plus`; the state_dict has the original key names, and `w_avg` as a buffer."""

    w_avg: Tensor  # [num_ws, w_dim]

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        top_width = config.widths[-1]
        if config.backbone == "resnet34":
            self.conv1, self.bn1, self.relu = resnet_stem(config.input_channels, config.stem_width)
            units: Iterator[nn.Module] = resnet_units(config.stem_width, config.widths, config.units)
        else:
            self.input_layer = stem(config.input_channels, config.stem_width)
            units = residual_units(config.stem_width, config.widths, config.units)
        self.body = nn.Sequential(*units)
        self.styles = nn.ModuleList(
            StyleHead(top_width, config.head_width, config.w_dim, config.map_side(style))
            for style in range(config.num_ws)
        )
        if not config.iterates:
            self.latlayer1 = nn.Conv2d(config.widths[2], top_width, 1)
            self.latlayer2 = nn.Conv2d(config.widths[1], top_width, 1)
        self.register_buffer("w_avg", torch.zeros(config.num_ws, config.w_dim))

    def encode(self, images: Tensor, synthesis: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Aligned RGB [N, 3, S, S] in [-1, 1], S >= input_side -> w_plus [N, num_ws, w_dim].

        Larger images are resized with antialiasing. ReStyle refines its answer with the picture of that
        answer, so it needs `synthesis`: w_plus -> images (a generator's `.synthesis`). Other kinds ignore it.
        """
        self._check(images)
        images = resize_antialiased(images, self.config.input_side)
        if not self.config.iterates:
            return self.w_avg + self._offsets(images)
        if synthesis is None:
            raise DataError("encode: ReStyle needs its generator, got none; pass generator.synthesis")
        return self._refine(images, synthesis)

    def _check(self, images: Tensor) -> None:
        side = self.config.input_side
        if (
            images.ndim != 4
            or images.shape[1] != 3
            or images.shape[2] != images.shape[3]
            or images.shape[2] < side
        ):
            raise DataError(
                f"encode: expected square images [N, 3, S, S] with S of {side} or more, "
                f"got {list(images.shape)}; crop or enlarge them first"
            )
        if len(images) and not (peak := float(images.detach().abs().max())) <= _LARGEST_INPUT:
            raise DataError(
                f"encode: expected images in [-1, 1], got values up to {peak:g}; pixels become x / 127.5 - 1"
            )

    def _refine(self, images: Tensor, synthesis: Callable[[Tensor], Tensor]) -> Tensor:
        """Five steps, each from the images and the picture of the last answer, beginning at the average w."""
        w_plus = self.w_avg.expand(len(images), -1, -1)
        picture = synthesis(w_plus[:1]).expand(len(images), -1, -1, -1)
        for iteration in range(_RESTYLE_ITERATIONS):
            if iteration > 0:
                picture = synthesis(w_plus)
            pooled = F.adaptive_avg_pool2d(picture, self.config.input_side)
            w_plus = w_plus + self._offsets(torch.cat([images, pooled], dim=1))
        return w_plus

    def _offsets(self, x: Tensor) -> Tensor:
        """Network input [N, 3 or 6, S, S] -> offsets [N, num_ws, w_dim] from the starting point."""
        maps = self._feature_maps(x)
        styles = [head(maps[self.config.map_side(index)]) for index, head in enumerate(self.styles)]
        offsets = torch.stack(styles, dim=1)  # [N, num_ws, w_dim]
        if self.config.shares_first_style:
            return torch.cat([offsets[:, :1], offsets[:, :1] + offsets[:, 1:]], dim=1)
        return offsets

    def _feature_maps(self, x: Tensor) -> dict[int, Tensor]:
        """The feature pyramid by side: the body's last map and, except for ReStyle, two finer maps."""
        stem = (
            (self.conv1, self.bn1, self.relu) if self.config.backbone == "resnet34" else (self.input_layer,)
        )
        for layer in stem:
            x = layer(x)
        stages: list[Tensor] = []
        units = iter(self.body)
        for count in self.config.units:
            for _ in range(count):
                x = next(units)(x)
            stages.append(x)
        maps = {x.shape[-1]: x}
        if not self.config.iterates:
            middle = _upsample_add(x, self.latlayer1(stages[2]))
            fine = _upsample_add(middle, self.latlayer2(stages[1]))
            maps |= {middle.shape[-1]: middle, fine.shape[-1]: fine}
        return maps


class ResidualUnit(nn.Module):
    """Unit of IR-SE50: batch norm, two convolutions, squeeze and excitation, shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == out_channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcitation(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [N, I, H, H] -> [N, O, H / stride, H / stride]."""
        out: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return out


class SqueezeExcitation(nn.Module):
    """Gates channels by their mean over the picture; squeeze ratio 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, H, W] -> same shape."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        gate: Tensor = self.fc2(self.fc1(mean).relu()).sigmoid()  # [N, C, 1, 1]
        return x * gate


class StyleHead(nn.Module):
    """Strided convolutions down to one pixel, then an equalised linear layer: one style vector."""

    def __init__(self, in_channels: int, width: int, w_dim: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(side.bit_length() - 1):
            layers += [
                nn.Conv2d(in_channels if index == 0 else width, width, 3, 2, padding=1),
                nn.LeakyReLU(0.01),
            ]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualisedLinear(width, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, side, side] -> [N, w_dim]."""
        style: Tensor = self.linear(self.convs(x).flatten(1))
        return style


class EqualisedLinear(nn.Linear):
    """Linear layer whose weight is divided by sqrt(in_features) at run time."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, in_features] -> [N, out_features]."""
        return F.linear(x, self.weight / math.sqrt(self.in_features), self.bias)


def stem(in_channels: int, width: int) -> nn.Sequential:
    """First layer of IR-SE50."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
    )


def residual_units(stem_width: int, widths: Sequence[int], units: Sequence[int]) -> Iterator[ResidualUnit]:
    """Body of IR-SE50, stage by stage; each stage halves the side at its first unit."""
    in_channels = stem_width
    for width, count in zip(widths, units, strict=True):
        for index in range(count):
            yield ResidualUnit(in_channels, width, stride=2 if index == 0 else 1)
            in_channels = width


def _upsample_add(x: Tensor, lateral: Tensor) -> Tensor:
    """x [N, C, H, H] stretched to the side of lateral [N, C, 2H, 2H], plus lateral."""
    stretched: Tensor = F.interpolate(x, size=lateral.shape[-2:], mode="bilinear", align_corners=True)
    return stretched + lateral
