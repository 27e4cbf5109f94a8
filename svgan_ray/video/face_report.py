"""A report of tracking in one video: faces, people, gaps, the jitter of the crops, and a sheet of crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import VideoError
from svgan_ray.video.alignment import Floats, ffhq_axes, quads_of
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.people import People
from svgan_ray.video.pictures import contact_sheet
from svgan_ray.video.reading import VideoReader
from svgan_ray.video.tracking import Track, skipped_by_all

__all__ = ["FaceReport", "face_report", "face_sheet"]

_SHEET_CROPS, _SHEET_SIDE = 8, 96

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class FaceReport:
    """Scores of one video.

    faces            number of usable faces, over all frames
    people           number of different people; `followed` of them became `clips`
    gaps             number of interpolated spans without a face, with `gap_frames` frames in total
    skipped_frames   number of frames that are in no clip
    found_jitter     root mean square of the second difference over time of the crop's corners, before
                     smoothing, as a share of the crop's side; None without three frames in a row
    crop_jitter      the same for the crops after smoothing
    """

    frames: int
    frames_with_face: int
    faces: int
    people: int
    followed: int
    clips: int
    gaps: int
    gap_frames: int
    skipped_frames: int
    found_jitter: float | None
    crop_jitter: float | None


def face_report(people: People, chosen: list[NDArray[np.floating]], tracks: list[Track]) -> FaceReport:
    """The report of a video; its tracks were made from `chosen`, the landmarks [T, 68, 2] of each person."""
    is_face = people.person >= 0  # [T, F]
    clips = [clip for track in tracks for clip in track.clips]
    found = [
        quads_of(*ffhq_axes(points[clip.first_frame : clip.stop_frame]))
        for points, track in zip(chosen, tracks, strict=True)
        for clip in track.clips
    ]
    return FaceReport(
        frames=len(is_face),
        frames_with_face=int(is_face.any(axis=1).sum()),
        faces=int(is_face.sum()),
        people=people.count,
        followed=len(tracks),
        clips=len(clips),
        gaps=sum(int((np.diff(clip.interpolated.astype(int)) == 1).sum()) for clip in clips),
        gap_frames=sum(int(clip.interpolated.sum()) for clip in clips),
        skipped_frames=sum(span.stop_frame - span.first_frame for span in skipped_by_all(tracks)),
        found_jitter=_jitter(found),
        crop_jitter=_jitter([clip.quad for clip in clips]),
    )


def face_sheet(video: VideoReader, tracks: list[Track]) -> Pixels | None:
    """Crops spread evenly over the clips, in order of time, in one row; None if no frame can be read."""
    frames = [
        (clip.first_frame + offset, clip.quad[offset])
        for track in tracks
        for clip in track.clips
        for offset in range(clip.frames)
    ]
    if not frames:
        return None
    positions = np.linspace(0, len(frames) - 1, _SHEET_CROPS).round().astype(int)
    crops = list(_crops(video, [frames[position] for position in positions]))
    return contact_sheet(np.stack(crops), len(crops)) if crops else None


def _crops(video: VideoReader, frames: list[tuple[int, Floats]]) -> Iterator[Pixels]:
    """The crops of some frames, without damaged ones; the job reports those when it crops the clip."""
    for frame, quad in frames:
        try:
            yield crop_quads(video.read(frame, frame + 1), quad[None], _SHEET_SIDE)[0]
        except VideoError:
            continue


def _jitter(quads: list[Floats]) -> float | None:
    """The jitter of the quads [n, 4, 2] of all clips, NaN where there is no face."""
    shares = [
        np.diff(one, n=2, axis=0) / np.linalg.norm(one[1:-1, 3] - one[1:-1, 0], axis=1)[:, None, None]
        for one in quads
        if len(one) > 2
    ]
    squares = np.concatenate([share.ravel() ** 2 for share in shares]) if shares else np.empty(0)
    squares = squares[np.isfinite(squares)]
    return float(np.sqrt(2 * squares.mean())) if len(squares) else None  # 2, because x and y are added
