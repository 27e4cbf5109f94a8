"""FFHQ crop of a face from its landmarks, smoothed in time.

The crop is FFHQ's (Karras et al. 2019, `recreate_aligned_images`). E is the mean of the two eye centres,
M the mean of the mouth corners, e the vector from the image's left eye to its right eye, m = M - E, and

    x = normalise(e - rot90(m)) * max(2.0 |e|, 1.8 |m|),  y = rot90(x),  c = E + 0.1 m

where rot90((a, b)) = (-b, a), and the quad is c - x - y, c - x + y, c + x + y, c + x - y: top-left,
bottom-left, bottom-right, top-right. An eye's centre is the mean of its eyelid contour. The iris is not used,
because then a change of gaze would move the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import ConfigError

__all__ = ["CropParameters", "ffhq_axes", "quads_of", "smooth", "smooth_track"]

LEFT_EYE = slice(36, 42)  # the image's left, in the 68-point iBUG layout
RIGHT_EYE = slice(42, 48)
MOUTH_CORNERS = [48, 54]

_REACH_SIGMAS = 4.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CropParameters:
    """How landmarks become clips of quads; part of a tracking's identity.

    centre_sigma_s   smoothing of the crop's centre: enough to remove jitter, but not enough to remove a nod
    axes_sigma_s     smoothing of the crop's size and tilt, which change more slowly and jitter more visibly
    max_gap_frames   a gap without a face of up to this length is interpolated; a longer one ends the clip
    min_clip_frames  a shorter clip is skipped, because it cannot hold one training window of a second
    """

    centre_sigma_s: float = 0.04
    axes_sigma_s: float = 0.12
    max_gap_frames: int = 10
    min_clip_frames: int = 24

    def __post_init__(self) -> None:
        least = {"centre_sigma_s": 0, "axes_sigma_s": 0, "max_gap_frames": 0, "min_clip_frames": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if not bound <= value < float("inf"):
                raise ConfigError(f"{name}: expected a finite number of at least {bound}, got {value}")


def ffhq_axes(points: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
    """Landmarks [T, 68, 2] -> centre, x, y of the crop, each [T, 2]; not finite without a usable face."""
    points = points.astype(np.float64)
    left, right = points[:, LEFT_EYE].mean(axis=1), points[:, RIGHT_EYE].mean(axis=1)  # [T, 2]
    eyes = (left + right) / 2
    eye_to_eye = right - left
    eye_to_mouth = points[:, MOUTH_CORNERS].mean(axis=1) - eyes
    direction = eye_to_eye - _rot90(eye_to_mouth)
    half_side = np.maximum(2.0 * _length(eye_to_eye), 1.8 * _length(eye_to_mouth))  # [T, 1]
    with np.errstate(invalid="ignore", divide="ignore"):  # all landmarks on one spot: NaN, no face
        x = direction / _length(direction) * half_side
    return eyes + 0.1 * eye_to_mouth, x, _rot90(x)


def _rot90(vectors: Floats) -> Floats:
    return np.stack([-vectors[:, 1], vectors[:, 0]], axis=1)


def _length(vectors: Floats) -> Floats:
    return np.hypot(vectors[:, :1], vectors[:, 1:])


def quads_of(centre: Floats, x: Floats, y: Floats) -> Floats:
    """Centre, x and y [T, 2] -> quads [T, 4, 2]."""
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y], axis=1)


def smooth_track(
    centre: Floats, x: Floats, y: Floats, time_s: Floats, parameters: CropParameters
) -> tuple[Floats, Floats, Floats]:
    """Smooth one clip's centre, x and y [T, 2] at times [T], without losing or delaying any frame."""
    return (
        smooth(centre, time_s, parameters.centre_sigma_s),
        smooth(x, time_s, parameters.axes_sigma_s),
        smooth(y, time_s, parameters.axes_sigma_s),
    )


def smooth(values: Floats, time_s: Floats, sigma_s: float) -> Floats:
    """Local linear regression of values [T, D] on increasing times [T] with Gaussian weights.

    For evenly spaced frames, and away from both ends, this equals the Gaussian filter, which has zero phase.
    It fits a line instead of a mean. That keeps uniform motion exact where the neighbours are not symmetric:
    at both ends and with a variable frame rate.
    """
    if sigma_s == 0 or len(values) == 0:
        return values.copy()
    s0, s1, s2 = np.zeros((3, len(values), 1))  # sums of weight * (time difference) ** 0, 1, 2
    v0, v1 = np.zeros((2, *values.shape))  # the same with the values as a factor
    for target, source in _neighbours(time_s, _REACH_SIGMAS * sigma_s):
        apart = (time_s[source] - time_s[target])[:, None] / sigma_s
        weight = np.exp(-(apart**2) / 2)
        s0[target] += weight
        s1[target] += weight * apart
        s2[target] += weight * apart**2
        v0[target] += weight * values[source]
        v1[target] += weight * apart * values[source]
    spread = np.maximum(s0 * s2 - s1**2, 1e-9 * s0**2)  # a single frame has no spread, and a slope of 0
    slope = (s0 * v1 - s1 * v0) / spread
    return np.asarray((v0 - slope * s1) / s0)


def _neighbours(time_s: Floats, reach_s: float) -> list[tuple[slice, slice]]:
    """Pairs of slices (frames, frames k later), k negative too, as far as any two frames lie in reach."""
    count = len(time_s)
    furthest = int((np.searchsorted(time_s, time_s + reach_s, side="right") - np.arange(count)).max()) - 1
    later = [(slice(0, count - k), slice(k, count)) for k in range(furthest + 1)]
    return later + [(source, target) for target, source in later[1:]]
