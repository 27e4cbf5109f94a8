"""Antialiased resizing, equal to what PIL's bilinear filter gives."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["resize_antialiased"]


def resize_antialiased(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] -> [N, C, side, side] by the triangle filter, widened by the scale as in PIL.

    Encoders were trained on pictures that PIL resized; without antialiasing they give different latents.
    """
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
