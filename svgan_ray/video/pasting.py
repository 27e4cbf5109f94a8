"""Pastes crops back into the frames they were cut from: the inverse of `crop_quads`, with a soft edge."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from svgan_ray.errors import DataError

__all__ = ["paste_back"]

_ROUNDING_PX = 1e-2  # quads are stored as float32

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def paste_back(frames: Pixels, crops: Pixels, quads: NDArray[np.floating], feather: float = 0.1) -> Pixels:
    """Frames [N, H, W, 3] with crops [N, S, S, 3] laid over their quads [N, 4, 2] -> [N, H, W, 3].

    The quads are those given to `crop_quads`. A pixel outside its quad stays as it is, bit for bit. From the
    quad's edge inwards the crop fades in smoothly over a share `feather` of its side; further inside, only
    the crop is visible. A crop larger than its quad is reduced with antialiasing. Raises DataError for other
    shapes, for quads that are no parallelograms and for a feather outside (0, 0.5].
    """
    _require_fitting(frames, crops, quads, feather)
    pasted = frames.copy()
    for frame, crop, quad in zip(pasted, crops, quads.astype(np.float64), strict=True):
        _paste(frame, crop, quad, feather)
    return pasted


def _require_fitting(frames: Pixels, crops: Pixels, quads: NDArray[np.floating], feather: float) -> None:
    for name, pictures in (("frames", frames), ("crops", crops)):
        if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
            got = f"{pictures.dtype} {list(pictures.shape)}"
            raise DataError(f"{name}: expected uint8 [N, H, W, 3], got {got}")
    count = len(frames)
    if crops.shape[1] != crops.shape[2] or len(crops) != count:
        raise DataError(f"crops: expected {count} square pictures, got {list(crops.shape)}")
    if quads.shape != (count, 4, 2) or not np.isfinite(quads).all():
        raise DataError(f"quads: expected finite {[count, 4, 2]}, got {list(quads.shape)}")
    top_left, bottom_left, bottom_right, top_right = quads.astype(np.float64).transpose(1, 0, 2)
    if np.abs(top_left - bottom_left + bottom_right - top_right).max(initial=0) > _ROUNDING_PX:
        raise DataError("quads: expected parallelograms, as tracking gives them")
    if not 0 < feather <= 0.5:
        raise DataError(f"feather: expected more than 0 and at most 0.5 of the crop's side, got {feather}")


def _paste(frame: Pixels, crop: Pixels, quad: Floats, feather: float) -> None:
    """Lay one crop [S, S, 3] over its quad [4, 2] in a frame [H, W, 3], in place."""
    size = np.array([frame.shape[1], frame.shape[0]])
    low = np.clip(np.floor(quad.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(quad.max(axis=0)), 0, size).astype(int)
    if (high <= low).any():
        return  # the quad lies beside the frame
    place = _places(low, high, quad)  # [h, w, 2]
    picture = _sampled(_reduced(crop, quad), place)  # [h, w, 3]
    opacity = _opacity(place, feather)[..., None]  # [h, w, 1]
    under = frame[low[1] : high[1], low[0] : high[0]]
    blended = under + opacity * (picture - under)
    under[:] = np.where(opacity > 0, blended.round().clip(0, 255), under)


def _places(low: NDArray[np.int_], high: NDArray[np.int_], quad: Floats) -> Floats:
    """The positions [h, w, 2] of the frame's pixel centres in the crop, which spans 0 to 1."""
    top_left, bottom_left, _, top_right = quad
    into_crop = np.linalg.inv(np.stack([top_right - top_left, bottom_left - top_left], axis=1))
    x, y = (np.arange(a, b) + 0.5 for a, b in zip(low, high, strict=True))
    points = np.stack(np.meshgrid(x, y), axis=-1) - top_left
    return np.asarray(points @ into_crop.T)


def _opacity(place: Floats, feather: float) -> Floats:
    """The opacity [h, w], a smoothstep of the distance to the crop's edge: 0 outside, 1 from `feather` on."""
    inside = np.minimum(place, 1 - place).min(axis=-1) / feather
    ramp = inside.clip(0, 1)
    return np.asarray(ramp**2 * (3 - 2 * ramp))


def _reduced(crop: Pixels, quad: Floats) -> Tensor:
    """The crop as planes [1, 3, s, s], antialiased where the quad has fewer pixels than the crop."""
    planes = torch.from_numpy(crop.transpose(2, 0, 1).copy())[None].float()
    quad_side = np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1).max()
    side = max(1, round(float(quad_side)))
    if side >= len(crop):
        return planes
    return F.interpolate(planes, size=(side, side), mode="bilinear", antialias=True)


def _sampled(planes: Tensor, place: Floats) -> Floats:
    """Planes [1, 3, s, s] read bicubically at places [h, w, 2] of 0 to 1 -> [h, w, 3]."""
    grid = torch.from_numpy(2 * place - 1).float()[None]
    picture = F.grid_sample(planes, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return picture[0].permute(1, 2, 0).numpy().astype(np.float64)
