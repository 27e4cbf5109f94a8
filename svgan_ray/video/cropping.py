"""Cut quads out of frames: antialiased, mirrored beyond the frame's border."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.video.reading import VideoReader

__all__ = ["crop_quads", "crop_span"]

# Landmarks are float32: their rounding must neither enlarge a quad's box nor turn a copy into a resampling.
_TOLERANCE_PX = 1e-3

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def crop_quads(frames: Pixels, quads: NDArray[np.floating], side: int) -> Pixels:
    """Frames [N, H, W, 3] and quads [N, 4, 2] in pixels (pixel centres at +0.5) -> crops [N, side, side, 3].

    The corners are top-left, bottom-left, bottom-right, top-right. Pixels outside the frame are mirrored at
    its border. Each crop depends on its own frame alone, not on the batch. Raises DataError for other shapes
    or NaN.

    A quad up to the output's size is sampled bilinearly, so a quad of `side` whole pixels is copied bit for
    bit. A larger quad is first reduced (triangle filter) to at most twice the output's size, then sampled
    twice as densely and averaged in blocks of 2 x 2. Compared with an ideal triangle filter, the result has
    48-58 dB at ratios from 1 to 5, and sharpness does not jump when a face grows beyond the output's size.
    There are two alternatives: reducing to the output's size at once has 36-45 dB and shimmers three times as
    much while a face moves slowly, and a filter at full density takes up to four times as long.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise DataError(f"frames: expected uint8 [N, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    if quads.shape != (len(frames), 4, 2) or not np.isfinite(quads).all():
        raise DataError(f"quads: expected finite {[len(frames), 4, 2]}, got {list(quads.shape)}")
    crops = np.empty((len(frames), side, side, 3), np.uint8)
    for crop, frame, quad in zip(crops, frames, quads.astype(np.float64), strict=True):
        crop[:] = _crop(frame, quad, side)
    return crops


def crop_span(
    video: VideoReader, first_frame: int, quads: NDArray[np.floating], side: int
) -> Iterator[Pixels]:
    """The crops of the quads [N, 4, 2] of the frames from `first_frame` on, in batches [n, side, side, 3].

    Raises VideoError, and DataError in the cases of `crop_quads`.
    """
    done = 0
    for frames in video.batches(first_frame, first_frame + len(quads)):
        yield crop_quads(frames, quads[done : done + len(frames)], side)
        done += len(frames)


def _crop(frame: Pixels, quad: Floats, side: int) -> Pixels:
    """One frame [H, W, 3] -> [side, side, 3]."""
    quad_side = np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1).max()
    denser = 2 if quad_side > side + _TOLERANCE_PX else 1
    origin, box = _box(frame, quad)
    planes, scale = _reduced(box, quad_side / (2 * side))
    grid = _grid((quad - origin) * scale, denser * side, planes)
    crop = F.grid_sample(planes.float(), grid, padding_mode="reflection", align_corners=False)
    crop = _halved(crop) if denser == 2 else crop
    return np.asarray(crop[0].round_().to(torch.uint8).permute(1, 2, 0))


def _box(frame: Pixels, quad: Floats) -> tuple[Floats, Tensor]:
    """The part of a frame [H, W, 3] that a quad needs: its corner (x, y) and its planes [1, 3, h, w].

    The part is as large as the quad's bounding box even where the box extends beyond the border, so that it
    contains the pixels that are mirrored. The planes are contiguous, because the sampler reads those fastest.
    """
    size = np.array([frame.shape[1], frame.shape[0]])
    low = np.floor(quad.min(axis=0) + _TOLERANCE_PX).astype(int) - 1  # bilinear sampling reads a pixel beyond
    high = np.ceil(quad.max(axis=0) - _TOLERANCE_PX).astype(int) + 1
    extent = np.minimum(high - low, size)
    left, top = origin = np.clip(low, 0, size - extent)
    box = frame[top : top + extent[1], left : left + extent[0]]
    return origin.astype(np.float64), torch.from_numpy(box.transpose(2, 0, 1).copy())[None]


def _reduced(planes: Tensor, factor: float) -> tuple[Tensor, Floats]:
    """Planes [1, 3, h, w] made `factor` times smaller with antialiasing, and the exact scale (x, y)."""
    if factor <= 1:
        return planes, np.ones(2)
    height, width = planes.shape[2:]
    size = (max(1, round(height / factor)), max(1, round(width / factor)))
    small = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return small, np.array([size[1] / width, size[0] / height])


def _halved(planes: Tensor) -> Tensor:
    """Mean of blocks of 2 x 2: [1, 3, 2s, 2s] -> [1, 3, s, s]; eight times as fast as avg_pool2d."""
    rows = planes[:, :, ::2] + planes[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _grid(quad: Floats, side: int, planes: Tensor) -> Tensor:
    """The positions at which planes [1, 3, h, w] are read for a quad: [1, side, side, 2], for grid_sample.

    A point is computed as one complex number, because complex numbers broadcast over rows and columns many
    times faster than pairs.
    """
    height, width = planes.shape[2:]
    x, y = (quad * 2 / (width, height) - 1).T
    top_left, bottom_left, bottom_right, top_right = torch.from_numpy(x + 1j * y)
    t = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    top = (top_left + t * (top_right - top_left)).to(torch.complex64)
    bottom = (bottom_left + t * (bottom_right - bottom_left)).to(torch.complex64)
    return torch.view_as_real(torch.lerp(top, bottom, t[:, None].to(torch.complex64)))[None]
