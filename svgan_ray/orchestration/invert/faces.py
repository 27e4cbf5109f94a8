"""The tracking stage of one source: hash, find faces, smooth, cut into clips, list the blocks to encode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.errors import CorruptObjectError, VideoError
from svgan_ray.files import file_sha256
from svgan_ray.orchestration.invert.encoding import standing_chunk
from svgan_ray.orchestration.invert.failures import source_failure
from svgan_ray.orchestration.invert.items import Block, Clip, Inversion, Item, Tracked, block_spans
from svgan_ray.orchestration.runtime.sources import Source, unchanged_copy
from svgan_ray.store import ClipRecord, LatentStore, SkippedRecord, TrackRecord, open_store
from svgan_ray.store.keys import clip_id, content_id
from svgan_ray.store.weights import local_face_model
from svgan_ray.video.alignment import CropParameters, Floats
from svgan_ray.video.face_report import FaceReport, face_report, face_sheet
from svgan_ray.video.footage_facts import FootageFacts, facts_of
from svgan_ray.video.landmarks import landmark_source
from svgan_ray.video.people import find_people
from svgan_ray.video.reading import VideoReader, open_video
from svgan_ray.video.tracking import Clip as TrackedClip
from svgan_ray.video.tracking import Track, skipped_by_all, track

__all__ = ["person_name", "track_source"]

_LONGEST_GAP_S = CropParameters().max_gap_frames / 25
"""The longest gap that is interpolated in footage of 25 frames per second."""


def track_source(job: Inversion, source: Source, excluded: frozenset[str]) -> Iterator[Item]:
    """Track a source, or take its track from the store, and yield its blocks.

    Clips that are committed or in `excluded` are left out. Blocks that a killed run has stored are yielded as
    chunks. Any error becomes one Failure.
    """
    video_id = None
    try:
        store = open_store(job.store)
        with unchanged_copy(source) as path:
            video_id = file_sha256(path)
        store.put_source(source.uri, source.size_bytes, source.version, video_id)
        record, seen = store.get_track(job.tracking_id, video_id), _FaceSummary()
        if record is None:
            record, seen = make_track(job, store, source, video_id)
        yield from _open_items(job, store, source, record, seen, excluded)
    except Exception as error:  # every error travels on as a row
        yield source_failure(job, source, video_id, error)


@dataclass(frozen=True, eq=False)
class _FaceSummary:
    """The facts about a video's faces that the run reports when it tracks the video."""

    faces: FaceReport | None = None
    sheet: npt.NDArray[np.uint8] | None = None


def make_track(
    job: Inversion, store: LatentStore, source: Source, video_id: str
) -> tuple[TrackRecord, _FaceSummary]:
    """Find the people in a video, smooth the crops of those to be followed and put them into the store."""
    with unchanged_copy(source) as path, open_video(path) as video:
        face_model = local_face_model(store, job.face_model_sha256) if job.face_model_sha256 else None
        facts, is_damaged = _surveyed(video)
        points = landmark_source(job.faces, face_model).detect(video)
        people = find_people(_without(points, is_damaged), video.time_s)
        chosen = people.chosen(job.people)
        tracks = [track(points_of_one, video.time_s, job.crop, is_damaged) for points_of_one in chosen]
        clips = list(_named_clips(video_id, job.tracking_id, facts.rules, tracks))
        tensors = {key: value for clip in clips for key, value in _tensors(clip, video.time_s)}
        landmarks = {
            f"{clip.clip_id}.landmarks": _landmarks(clip.span, chosen[clip.person])
            for clip in clips
            if job.faces != "aligned"  # landmarks of aligned footage only mark the crop, not a mouth
        }
        record = TrackRecord(
            tracking_id=job.tracking_id,
            video_id=video_id,
            uri=source.uri,
            subject=job.subject or source.subject,
            decoder=video.info.decoder,
            frame_count=video.info.frame_count,
            frame_rate_hz=video.info.frame_rate_hz,
            width=video.info.width,
            height=video.info.height,
            clips=tuple(ClipRecord(c.clip_id, c.span.first_frame, c.span.stop_frame) for c in clips),
            skipped=tuple(
                SkippedRecord(s.first_frame, s.stop_frame, s.reason) for s in skipped_by_all(tracks)
            ),
            parameters=dataclasses.asdict(job.crop) | facts.to_parameters(),
        )
        seen = _FaceSummary(face_report(people, chosen, tracks), face_sheet(video, tracks))
    return store.put_track(record, tensors, landmarks), seen


def _surveyed(video: VideoReader) -> tuple[FootageFacts, npt.NDArray[np.bool_]]:
    """The conversions of a video, and which of its frames [T] are damaged. Raises VideoError (`decode`)."""
    survey, info = video.survey(), video.info
    damaged_frames = int(survey.is_damaged.sum())
    if damaged_frames == info.frame_count:
        raise VideoError(f"{info.path}: every frame is damaged: copy it again", "decode")
    warnings = (*info.warnings, *_warnings_of_rate(info.frame_rate_hz))
    return FootageFacts(survey.rules, info.mends, damaged_frames, warnings), survey.is_damaged


def _warnings_of_rate(frame_rate_hz: float) -> Iterator[str]:
    """Warn of time-lapse footage: its frames are further apart than the longest gap at an ordinary rate."""
    if 0 < frame_rate_hz * _LONGEST_GAP_S < 1:
        yield (
            f"its frames are {1 / frame_rate_hz:g} s apart, longer than the {_LONGEST_GAP_S:g} s that a "
            "face may be out of sight: the motion between them is a guess"
        )


def _without(points: npt.NDArray[np.floating], is_damaged: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """Landmarks [T, ..., 68, 2] without those of damaged frames [T]; those of another video are unchanged."""
    if len(points) != len(is_damaged) or not is_damaged.any():
        return points
    kept = points.copy()
    kept[is_damaged] = np.nan
    return kept


@dataclass(frozen=True)
class _NamedClip:
    """A clip and its id; `person` counts from 0 among the people who are followed."""

    clip_id: str
    person: int
    span: TrackedClip


def _named_clips(
    video_id: str, tracking_id: str, rules: tuple[str, ...], tracks: list[Track]
) -> Iterator[_NamedClip]:
    """The clips of all people. The clips of the second person and of further ones have ids of their own.

    Clips of converted pictures have ids of their own, too: they differ from clips of the unconverted file.
    """
    for person, followed in enumerate(tracks):
        special = ({"person": person} if person else {}) | ({"rules": list(rules)} if rules else {})
        scope = content_id({"tracking_id": tracking_id, **special}) if special else tracking_id
        for clip in followed.clips:
            name = clip_id(video_id, scope, clip.first_frame, clip.stop_frame)
            yield _NamedClip(name, person, clip)


def _tensors(clip: _NamedClip, time_s: Floats) -> Iterator[tuple[str, Tensor]]:
    span = clip.span
    yield f"{clip.clip_id}.quad", torch.from_numpy(span.quad.astype(np.float32))
    yield f"{clip.clip_id}.interpolated", torch.from_numpy(span.interpolated)
    yield f"{clip.clip_id}.time_s", torch.from_numpy(time_s[span.first_frame : span.stop_frame])
    yield f"{clip.clip_id}.person", torch.tensor([clip.person])


def _landmarks(span: TrackedClip, points: npt.NDArray[np.floating]) -> Tensor:
    """A clip's landmarks [T, 68, 2] in pixels of the video, NaN where the face was not seen."""
    return torch.from_numpy(points[span.first_frame : span.stop_frame].astype(np.float32))


def _open_items(
    job: Inversion,
    store: LatentStore,
    source: Source,
    record: TrackRecord,
    seen: _FaceSummary,
    excluded: frozenset[str],
) -> Iterator[Item]:
    todo = [
        clip
        for clip in record.clips
        if not job.tracks_only
        and clip.clip_id not in excluded
        and not _is_committed(job, store, clip.clip_id)
    ]
    yield Tracked(
        source=source,
        video_id=record.video_id,
        frames=record.frame_count,
        skipped_frames=sum(span.stop_frame - span.first_frame for span in record.skipped),
        clips=len(record.clips),
        open_clips=frozenset(clip.clip_id for clip in todo),
        open_frames=sum(clip.stop_frame - clip.first_frame for clip in todo),
        faces=seen.faces,
        sheet=seen.sheet,
        footage=facts_of(record.parameters),
    )
    tensors = store.track_tensors(record) if todo else {}
    for standing in todo:
        clip = Clip(
            clip_id=standing.clip_id,
            video_id=record.video_id,
            source=source,
            subject=person_name(record.subject, int(tensors[f"{standing.clip_id}.person"])),
            first_frame=standing.first_frame,
            stop_frame=standing.stop_frame,
            frame_rate_hz=record.frame_rate_hz,
            rules=facts_of(record.parameters).rules,
        )
        yield from _clip_items(job, store, clip, tensors)


def _is_committed(job: Inversion, store: LatentStore, clip_id: str) -> bool:
    try:
        return store.get_commit(job.inversion_id, clip_id) is not None
    except CorruptObjectError:  # the next commit of the clip reports it; other clips are not affected
        return False


def person_name(first: str, person: int) -> str:
    """`anna` for the first person who is followed, `anna-2` for the second."""
    return f"{first}-{person + 1}" if person else first


def _clip_items(job: Inversion, store: LatentStore, clip: Clip, tensors: dict[str, Tensor]) -> Iterator[Item]:
    stored = store.stored_chunks(job.inversion_id, clip.clip_id)
    quad, time_s, interpolated = (
        tensors[f"{clip.clip_id}.{name}"].numpy() for name in ("quad", "time_s", "interpolated")
    )
    for number, (start, stop) in enumerate(block_spans(clip.first_frame, clip.stop_frame)):
        first, last = start - clip.first_frame, stop - clip.first_frame
        span, overlap = slice(first, last), job.refinement.overlap_frames if job.refinement else 0
        if number in stored:
            yield standing_chunk(store, clip, number, stored[number])
        else:
            before, after = quad[max(first - overlap, 0) : first], quad[last : last + overlap]
            yield Block(
                clip, number, start, stop, quad[span], time_s[span], interpolated[span], before, after
            )
