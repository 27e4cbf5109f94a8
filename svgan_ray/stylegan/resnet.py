"""The ResNet-34 that ReStyle uses for everything except faces, with the original parameter names.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. ReStyle (Alaluf et al., ICCV 2021) puts
a PReLU after the first layer and removes the pooling, so that a picture of 256 px becomes a map of 16 px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

__all__ = ["BasicUnit", "resnet_stem", "resnet_units"]


class BasicUnit(nn.Module):
    """Two convolutions with batch norms, added to a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """x [N, I, H, H] -> [N, O, H / stride, H / stride]."""
        out: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + self.downsample(x)
        return out.relu()


def resnet_stem(in_channels: int, width: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The first convolution, which halves the side, its batch norm and its activation."""
    convolution = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.PReLU(width)


def resnet_units(stem_width: int, widths: Sequence[int], units: Sequence[int]) -> Iterator[BasicUnit]:
    """The body, stage by stage; every stage except the first halves the side at its first unit."""
    in_channels = stem_width
    for stage, (width, count) in enumerate(zip(widths, units, strict=True)):
        for index in range(count):
            yield BasicUnit(in_channels, width, stride=2 if stage > 0 and index == 0 else 1)
            in_channels = width
