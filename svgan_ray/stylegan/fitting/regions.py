"""The regions of the eyes and the mouth in an aligned crop: they weigh more, and have scores of their own.

A region is a box (top, bottom, left, right) in shares of the crop's side.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.video.alignment import LEFT_EYE, RIGHT_EYE

__all__ = ["FIXED_REGIONS", "REGIONS", "fixed_regions", "region_masks", "region_weights", "regions_of"]

REGIONS = ("eyes", "mouth")

FIXED_REGIONS = torch.tensor([[45, 68, 26, 102], [82, 110, 40, 88]]) / 128
"""Boxes [2, 4] of an FFHQ crop, for tracks without landmarks and for scores that are compared."""

_MOUTH = slice(48, 68)
_MARGINS = np.array([[0.045, 0.06], [0.05, 0.05]])  # below and above, left and right; of the side


def fixed_regions(count: int) -> Tensor:
    """The fixed boxes for `count` crops: [N, 2, 4]."""
    return FIXED_REGIONS.expand(count, -1, -1)


def regions_of(landmarks: NDArray[np.floating], quads: NDArray[np.floating]) -> Tensor:
    """Landmarks [N, 68, 2] and crops' quads [N, 4, 2], both in pixels of the frame -> boxes [N, 2, 4].

    Frames without a face (NaN) get the fixed boxes.
    """
    if landmarks.shape[1:] != (68, 2) or quads.shape != (len(landmarks), 4, 2):
        raise DataError(
            f"regions: expected landmarks [N, 68, 2] and quads [N, 4, 2], got {list(landmarks.shape)} and "
            f"{list(quads.shape)}"
        )
    points = _in_crop(landmarks.astype(np.float64), quads.astype(np.float64))
    eyes = np.concatenate([points[:, LEFT_EYE], points[:, RIGHT_EYE]], axis=1)
    boxes = np.stack([_box(eyes, _MARGINS[0]), _box(points[:, _MOUTH], _MARGINS[1])], axis=1)
    known = np.isfinite(boxes).all(axis=(1, 2), keepdims=True)
    return torch.from_numpy(np.where(known, boxes, FIXED_REGIONS.numpy())).float()


def region_masks(boxes: Tensor, side: int) -> Tensor:
    """Boxes [N, 2, 4] -> [N, 2, S, S], one inside and zero outside; a pixel counts by its centre."""
    centres = (torch.arange(side, device=boxes.device) + 0.5) / side
    top, bottom, left, right = boxes.unsqueeze(-1).unbind(dim=2)  # [N, 2, 1] each
    rows, columns = (centres > top) & (centres < bottom), (centres > left) & (centres < right)  # [N, 2, S]
    return (rows.unsqueeze(-1) & columns.unsqueeze(-2)).float()


def region_weights(boxes: Tensor, side: int, eye_weight: float, mouth_weight: float) -> Tensor:
    """1 + eye_weight around the eyes + mouth_weight around the mouth, divided by its mean: [N, 1, S, S]."""
    more = torch.tensor([eye_weight, mouth_weight], device=boxes.device)
    weight = 1 + (region_masks(boxes, side) * more[:, None, None]).sum(dim=1, keepdim=True)
    return weight / weight.mean(dim=(2, 3), keepdim=True)


def _in_crop(points: NDArray[np.float64], quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert points [N, P, 2] of the frame to shares of the crop's side, across and down."""
    across, down = quads[:, 3] - quads[:, 0], quads[:, 1] - quads[:, 0]  # [N, 2]
    axes = np.stack([across, down], axis=2)  # [N, 2, 2], columns
    offsets = (points - quads[:, :1]).transpose(0, 2, 1)  # [N, 2, P]
    return np.asarray(np.linalg.solve(axes, offsets).transpose(0, 2, 1))


def _box(points: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, P, 2] -> top, bottom, left, right [N, 4], with a margin, inside the crop."""
    low, high = points.min(axis=1) - margins[::-1], points.max(axis=1) + margins[::-1]  # [N, 2]
    return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1).clip(0, 1)
