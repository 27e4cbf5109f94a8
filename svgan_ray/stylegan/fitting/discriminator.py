"""A small patch discriminator, which judges whether a piece of a picture has the footage's texture."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PatchDiscriminator"]

_WIDTHS = (32, 64, 64)


class PatchDiscriminator(nn.Module):
    """Three strided convolutions and a score for each position (Isola et al., 2017), which sees 22 px.

    Larger structures are left to the reconstruction loss, because a larger discriminator would memorise the
    few thousand frames.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        inputs = (channels, *_WIDTHS[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2, 1) for i, o in zip(inputs, _WIDTHS, strict=True)
        )
        self.score = nn.Conv2d(_WIDTHS[-1], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, S, S] -> scores [N, 1, S / 8, S / 8]."""
        x = images
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        scores: Tensor = self.score(x)
        return scores
