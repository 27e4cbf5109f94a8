"""One clip's latents, and their resampling to another frame rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.errors import ConfigError, DataError

__all__ = ["MAX_GAP_S", "ClipLatents", "resample"]

MAX_GAP_S = 0.2
"""The longest gap between two source frames that is interpolated; in a longer one the motion is unknown."""

_SNAP = 1e-6  # share of a frame interval: rounding of the times must not blend a frame with its neighbour


@dataclass(frozen=True, eq=False)
class ClipLatents:
    """Latents of one tracked, aligned span of a video.

    w_plus        [T, num_ws, w_dim] float32
    time_s        [T] float64, presentation time in the video, strictly increasing
    quad          [T, 4, 2] float32, corners of the crop in pixels of the video
    error         [T] float32, reconstruction error, NaN where it was not measured
    interpolated  [T] bool, True where no face was seen and its place was interpolated

    Raises DataError where the shapes do not fit together or the times do not increase.
    """

    clip_id: str
    subject: str
    w_plus: Tensor
    time_s: Tensor
    quad: Tensor
    error: Tensor
    interpolated: Tensor

    def __post_init__(self) -> None:
        if self.w_plus.ndim != 3 or len(self.w_plus) == 0:
            raise DataError(
                f"clip {self.clip_id}: w_plus is {list(self.w_plus.shape)}, expected [T >= 1, num_ws, w_dim]"
            )
        t = self.frames
        expected = {"time_s": [t], "quad": [t, 4, 2], "error": [t], "interpolated": [t]}
        for name, shape in expected.items():
            got = list(getattr(self, name).shape)
            if got != shape:
                raise DataError(
                    f"clip {self.clip_id}: {name} is {got}, expected {shape} as w_plus has {t} frames"
                )
        if not bool((self.time_s.diff() > 0).all()):
            raise DataError(f"clip {self.clip_id}: time_s does not increase from frame to frame")

    @property
    def frames(self) -> int:
        """Count of source frames T."""
        return len(self.w_plus)

    @property
    def duration_s(self) -> float:
        """Time between the first and the last frame."""
        return float(self.time_s[-1] - self.time_s[0])


def resample(clip: ClipLatents, frame_rate_hz: float) -> tuple[Tensor, Tensor]:
    """W+ on an even grid of times that starts at the clip's first frame, linear between source frames.

    Returns w_plus [S, num_ws, w_dim] float32 and valid [S] bool. A sample is valid if none of its source
    frames is interpolated and these frames lie at most MAX_GAP_S apart. A sample at the time of a frame
    equals that frame, bit by bit.
    """
    if not frame_rate_hz > 0:
        raise ConfigError(f"frame_rate_hz is {frame_rate_hz}, expected a number above 0")
    left, right, weight = _neighbours(clip.time_s.double(), frame_rate_hz)
    weight_ = weight[:, None, None]  # [S, 1, 1]
    blended = torch.lerp(clip.w_plus[left].double(), clip.w_plus[right].double(), weight_)  # [S, n, d]
    seen = ~clip.interpolated
    near = clip.time_s[right] - clip.time_s[left] <= MAX_GAP_S
    return blended.float(), seen[left] & seen[right] & near


def _neighbours(time_s: Tensor, frame_rate_hz: float) -> tuple[Tensor, Tensor, Tensor]:
    """Source frames on both sides of each sample, and the weight of the right one: each [S]."""
    elapsed_s = time_s - time_s[0]  # [T]
    samples = math.floor(float(elapsed_s[-1]) * frame_rate_hz + _SNAP) + 1
    wanted_s = torch.arange(samples, dtype=torch.float64) / frame_rate_hz  # [S]
    left = (torch.searchsorted(elapsed_s, wanted_s, right=True) - 1).clamp(0, len(time_s) - 1)
    right = (left + 1).clamp(max=len(time_s) - 1)
    weight = ((wanted_s - elapsed_s[left]) / (elapsed_s[right] - elapsed_s[left]).clamp(min=1e-12)).clamp(
        0, 1
    )
    on_left, on_right = weight < _SNAP, weight > 1 - _SNAP
    return (
        torch.where(on_right, right, left),
        torch.where(on_left, left, right),
        weight.masked_fill(on_left | on_right, 0),
    )
