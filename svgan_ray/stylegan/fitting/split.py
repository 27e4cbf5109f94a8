"""The frames that are held out of a fit, and the outliers that should not be trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import DataError

__all__ = ["BLOCK_S", "FEWEST_FRAMES", "Split", "held_out_split", "outliers", "require_enough"]

BLOCK_S, GAP_S, EVERY = 10.0, 1.0, 5
FEWEST_FRAMES = 200
"""The smallest number of usable frames of a subject that a fit accepts."""
OUTLIER_DEVIATIONS = 3.0
_NORMAL = 1.4826  # the standard deviation of a normal distribution, over its median absolute deviation

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Masks [T] of the frames to train on and of the frames held out; frames in neither separate the two."""

    training: Mask
    held_out: Mask


def held_out_split(time_s: NDArray[np.floating], duration_s: float | None = None) -> Split:
    """Split one video's frames by their times from its beginning [T] and its duration.

    Of every five blocks of 10 s the middle one is held out. A second on each side of it is in neither part,
    because neighbouring frames are nearly the same picture. If a video is shorter than 50 s, a block is a
    fifth of it. Only a frame's own time decides, so clips and blocks of a video can be split independently of
    each other. Raises DataError if nothing would be left in one of the parts.
    """
    time_s = np.asarray(time_s, np.float64)
    duration_s = float(time_s.max(initial=0)) if duration_s is None else duration_s
    block_s = min(BLOCK_S, duration_s / EVERY)
    gap_s = min(GAP_S, block_s / 4)
    if block_s <= 0:
        raise DataError("held-out split: expected footage with a duration, got a single instant")
    first_s, stop_s = EVERY // 2 * block_s, (EVERY // 2 + 1) * block_s  # of the held-out block
    place_s = time_s % (EVERY * block_s)
    held_out = (place_s >= first_s) & (place_s < stop_s)
    near = (place_s >= first_s - gap_s) & (place_s < stop_s + gap_s)
    return Split(training=~near, held_out=held_out)


def require_enough(split: Split, subject: str) -> None:
    """Raises DataError if a subject has too few frames to fit to, or no held-out frame."""
    if (usable := int(split.training.sum())) < FEWEST_FRAMES:
        raise DataError(
            f"subject {subject!r}: {usable} usable frames, expected {FEWEST_FRAMES} or more; "
            "add footage of it"
        )
    if not split.held_out.any():
        raise DataError(
            f"subject {subject!r}: no frame of it is held out, so the quality of the fit cannot be measured; "
            "add longer footage"
        )


def outliers(error: NDArray[np.floating], subject: NDArray[np.integer] | None = None) -> Mask:
    """Crops whose error [T] is an outlier among those of their subject [T]: hands, occlusions, a lost track.

    An outlier is more than three median absolute deviations above the median. The deviation is scaled as for
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
