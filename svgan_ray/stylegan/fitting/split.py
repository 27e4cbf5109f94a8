"""Which frames a fit never sees, and which it had better not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import DataError

__all__ = ["BLOCK_S", "FEWEST_FRAMES", "Split", "held_out_split", "outliers", "require_enough"]

BLOCK_S, GAP_S, EVERY = 10.0, 1.0, 5
FEWEST_FRAMES = 200
"""Fewer usable frames of a subject are not fitted to."""
OUTLIER_DEVIATIONS = 3.0
_NORMAL = 1.4826  # the standard deviation of a normal distribution, over its median absolute deviation

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Frames to train on and frames held out, [T] each; those in neither keep the two apart."""

    training: Mask
    held_out: Mask


def held_out_split(time_s: NDArray[np.floating], duration_s: float | None = None) -> Split:
    """The split of one video's frames, by their times from its beginning [T] and its duration.

    Of every five blocks of 10 s the middle one is held out; a second on each side of it is in neither part:
    neighbouring frames are nearly the same picture. Blocks of a video shorter than 50 s are a fifth of it.
    A time decides by itself, so that clips and blocks of a video can be split apart from each other.
    Raises DataError where nothing would be left on one of the sides.
    """
    time_s = np.asarray(time_s, np.float64)
    duration_s = float(time_s.max(initial=0)) if duration_s is None else duration_s
    block_s = min(BLOCK_S, duration_s / EVERY)
    gap_s = min(GAP_S, block_s / 4)
    if block_s <= 0:
        raise DataError("held-out split: expected footage with a duration, got a single instant")
    first_s, stop_s = EVERY // 2 * block_s, (EVERY // 2 + 1) * block_s  # of what is held out
    place_s = time_s % (EVERY * block_s)
    held_out = (place_s >= first_s) & (place_s < stop_s)
    near = (place_s >= first_s - gap_s) & (place_s < stop_s + gap_s)
    return Split(training=~near, held_out=held_out)


def require_enough(split: Split, subject: str) -> None:
    """Raises DataError where a subject has too few frames to fit to, or none to be judged by."""
    if (usable := int(split.training.sum())) < FEWEST_FRAMES:
        raise DataError(
            f"subject {subject!r}: {usable} usable frames, expected {FEWEST_FRAMES} or more; "
            "add footage of it"
        )
    if not split.held_out.any():
        raise DataError(
            f"subject {subject!r}: no frame of it is held out, so nothing could tell how good the fit is; "
            "add longer footage"
        )


def outliers(error: NDArray[np.floating], subject: NDArray[np.integer] | None = None) -> Mask:
    """Crops whose error [T] stands out among those of their subject [T]: hands, occlusions, a lost track.

    They lie more than three median absolute deviations above the median, a deviation being scaled as for
    normally distributed errors (Leys et al., 2013).
    """
    out = np.zeros(len(error), np.bool_)
    subject = np.zeros(len(error), np.int64) if subject is None else subject
    for number in np.unique(subject):
        mine = subject == number
        centre = np.median(error[mine])
        deviation = _NORMAL * np.median(np.abs(error[mine] - centre))
        out[mine] = error[mine] > centre + OUTLIER_DEVIATIONS * deviation
    return out
