"""The factor reader: reads an aligned portrait's factors back from its pixels.

The reader is trained on rendered portraits alone, independently of generator and encoder. It compares
generated video with the true factors.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.demo.factors import NUM_FACTORS
from svgan_ray.stylegan.weights import fill

SIDE = 128
WIDTHS = (24, 48, 64, 80)
WEIGHTS = Path(__file__).parent / "weights"


class FactorReader(nn.Module):
    """Convolutions at 64, 32, 16 and 8 pixels, then a linear layer over all positions: images → factors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, after, 4, stride=2, padding=1), Residual(after))
            for width, after in pairwise(WIDTHS)
        )
        self.squeeze = nn.Conv2d(WIDTHS[-1], 40, 1)
        self.linear = nn.Linear(40 * (SIDE // 16) ** 2, NUM_FACTORS)

    def forward(self, images: Tensor) -> Tensor:
        """Aligned portraits [N, 3, 128, 128] in [-1, 1] → factors [N, NUM_FACTORS]."""
        x = F.silu(self.stem(images))
        for stage in self.stages:
            x = stage(x)
        factors: Tensor = self.linear(F.silu(self.squeeze(x)).flatten(1))
        return factors

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Same as `forward`, without gradients."""
        return self(images)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions with an identity shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(x)
        out: Tensor = x + 0.5 * F.silu(self.second(F.silu(self.first(x))))
        return out


def load_factor_reader(folder: Path = WEIGHTS / "factor_reader") -> FactorReader:
    """The shipped reader, in evaluation mode."""
    return fill(FactorReader(), folder)
