"""From landmarks of a whole video to its clips: spans in which the face is seen in (nearly) every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import LandmarksError
from svgan_ray.video.alignment import CropParameters, Floats, ffhq_axes, quads_of, smooth_track

__all__ = ["DAMAGED", "NO_FACE", "SHORT_CLIP", "Clip", "SkippedSpan", "Track", "skipped_by_all", "track"]

DAMAGED = "damaged"
NO_FACE = "no_face"
SHORT_CLIP = "short_clip"


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames first_frame ... stop_frame - 1 of a video, with the crop of each frame.

    quad          [n, 4, 2] float64, corners in pixels: top-left, bottom-left, bottom-right, top-right
    interpolated  [n] bool, True where no face was seen and its place was interpolated
    """

    first_frame: int
    stop_frame: int
    quad: Floats
    interpolated: NDArray[np.bool_]

    @property
    def frames(self) -> int:
        """Count of frames n."""
        return self.stop_frame - self.first_frame


@dataclass(frozen=True)
class SkippedSpan:
    """Frames first_frame ... stop_frame - 1 in no clip, because of `no_face`, `damaged` or `short_clip`."""

    first_frame: int
    stop_frame: int
    reason: str


@dataclass(frozen=True)
class Track:
    """One face through a video: every frame is in exactly one clip or skipped span, both in order of time."""

    clips: list[Clip]
    skipped: list[SkippedSpan]


def track(
    points: NDArray[np.floating],
    time_s: Floats,
    parameters: CropParameters | None = None,
    is_damaged: NDArray[np.bool_] | None = None,
) -> Track:
    """Landmarks [T, 68, 2] (NaN where there is no face) at times [T] -> clips and skipped spans.

    A gap of at most `max_gap_frames` is interpolated in time and marked; a longer one ends the clip. Damaged
    frames (`is_damaged` [T]) count as frames without a face, even if a face was found in them.
    """
    if points.shape != (len(time_s), 68, 2):
        raise LandmarksError(f"landmarks: expected {[len(time_s), 68, 2]}, got {list(points.shape)}")
    parameters = parameters or CropParameters()
    axes = np.concatenate(ffhq_axes(points), axis=1)  # [T, 6]: centre, x, y
    damaged = np.zeros(len(time_s), bool) if is_damaged is None else is_damaged
    seen = np.isfinite(axes.sum(axis=1)) & ~damaged
    spans = _spans(seen, parameters.max_gap_frames)
    long_enough = [span for span in spans if span[1] - span[0] >= parameters.min_clip_frames]
    clips = [_clip(first, stop, axes, seen, time_s, parameters) for first, stop in long_enough]
    short = [SkippedSpan(*span, SHORT_CLIP) for span in spans if span not in long_enough]
    skipped = short + [part for span in _between(spans, len(seen)) for part in _reasons(*span, damaged)]
    return Track(clips, sorted(skipped, key=lambda span: span.first_frame))


def skipped_by_all(tracks: list[Track]) -> list[SkippedSpan]:
    """The frames that are in no clip of any track; the reason is `short_clip` if any track gives it."""
    if len(tracks) == 1:
        return tracks[0].skipped
    clips = [clip for one in tracks for clip in one.clips]
    skipped = [span for one in tracks for span in one.skipped]
    stops = [clip.stop_frame for clip in clips] + [span.stop_frame for span in skipped]
    reason = [NO_FACE] * max(stops)
    for kind in (DAMAGED, SHORT_CLIP):
        for span in skipped:
            if span.reason == kind:
                reason[span.first_frame : span.stop_frame] = [kind] * (span.stop_frame - span.first_frame)
    for clip in clips:
        reason[clip.first_frame : clip.stop_frame] = [""] * clip.frames
    bounds = [0, *(i for i in range(1, len(reason)) if reason[i] != reason[i - 1]), len(reason)]
    return [SkippedSpan(a, b, reason[a]) for a, b in pairwise(bounds) if reason[a]]


def _spans(seen: NDArray[np.bool_], max_gap_frames: int) -> list[tuple[int, int]]:
    """Spans (first, stop) that start and end with a face and have no gap longer than the largest."""
    faces = np.flatnonzero(seen)
    if len(faces) == 0:
        return []
    breaks = np.flatnonzero(np.diff(faces) > max_gap_frames + 1)
    firsts, lasts = faces[np.r_[0, breaks + 1]], faces[np.r_[breaks, len(faces) - 1]]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _between(spans: list[tuple[int, int]], frames: int) -> list[tuple[int, int]]:
    """The spans between the given spans, within frames 0 ... frames - 1."""
    stops, firsts = [0, *(stop for _, stop in spans)], [*(first for first, _ in spans), frames]
    return [(a, b) for a, b in zip(stops, firsts, strict=True) if a < b]


def _reasons(first: int, stop: int, damaged: NDArray[np.bool_]) -> Iterator[SkippedSpan]:
    """Divide a span without a usable face into parts with one reason each."""
    changes = first + 1 + np.flatnonzero(np.diff(damaged[first:stop]))
    for a, b in pairwise([first, *changes.tolist(), stop]):
        yield SkippedSpan(a, b, DAMAGED if damaged[a] else NO_FACE)


def _clip(
    first: int, stop: int, axes: Floats, seen: NDArray[np.bool_], time_s: Floats, parameters: CropParameters
) -> Clip:
    """The clip of a span: its axes [T, 6] with gaps interpolated, then smoothed."""
    axes, seen, time_s = axes[first:stop], seen[first:stop], time_s[first:stop]
    filled = np.stack([np.interp(time_s, time_s[seen], column[seen]) for column in axes.T], axis=1)
    centre, x, y = smooth_track(filled[:, :2], filled[:, 2:4], filled[:, 4:], time_s, parameters)
    return Clip(first, stop, quads_of(centre, x, y), ~seen)
