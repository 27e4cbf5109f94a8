"""The clips of the store that a fit uses: their subjects, their usable frames and their latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from svgan_ray.config import DataChoice, FitConfig
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.orchestration.fit.footage import FittedClip
from svgan_ray.orchestration.invert.faces import person_name
from svgan_ray.orchestration.invert.items import Clip
from svgan_ray.orchestration.runtime.footage import source_of, track_of
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.store import ChunkRef, LatentStore, Snapshot, TrackRecord
from svgan_ray.stylegan.fitting import Split, held_out_split
from svgan_ray.video.footage_facts import facts_of

__all__ = ["inverted_clips", "tracked_clips"]


def tracked_clips(store: LatentStore, config: FitConfig) -> list[FittedClip]:
    """All clips of the subjects that were tracked in one way.

    Raises DataError if a subject is not in the store, ConfigError if several trackings hold the subjects.
    """
    by_tracking = {name: list(_people(store, name)) for name in _trackings(store, config.tracking)}
    subjects = config.subjects or (_only_subject(store, by_tracking),)
    held = {name: people for name, people in by_tracking.items() if set(subjects) <= _names(people)}
    if not held:
        _refuse_absent(store, subjects, by_tracking)
    if len(held) > 1:
        raise ConfigError(
            f"--tracking: {len(held)} trackings in {store.uri} hold {', '.join(subjects)}; choose one of "
            + ", ".join(held)
        )
    [people] = held.values()
    tracks = [track for track, names in people if set(names) & set(subjects)]
    return [clip for track in tracks for clip in _clips(store, track, subjects)]


def inverted_clips(
    store: LatentStore, config: FitConfig, generator_sha256: str, put: bool
) -> tuple[list[FittedClip], list[Snapshot]]:
    """The clips with latents of this generator, their latents, and the snapshots that protect them."""
    names: Sequence[str | None] = config.subjects or (None,)
    choices = [DataChoice(subject=name, inversion=config.inversion) for name in names]
    snapshots = [resolve_snapshot(store, choice, generator_sha256, put) for choice in choices]
    clips = [clip for snapshot in snapshots for clip in _pivots(store, snapshot)]
    return clips, snapshots


def _pivots(store: LatentStore, snapshot: Snapshot) -> Iterator[FittedClip]:
    sources: dict[str, Source] = {}
    for clip in snapshot.clips:
        record = store.get_commit(snapshot.inversion_id, clip.clip_id)
        if record is None:
            raise DataError(f"snapshot {snapshot.name}: clip {clip.clip_id} is gone; take a new snapshot")
        track = track_of(store, record)
        source = sources.setdefault(track.video_id, source_of(store, track))
        tensors = store.track_tensors(track)
        yield _clip(track, source, clip.clip_id, record.subject, tensors, record.chunks)


def _trackings(store: LatentStore, wanted: str | None) -> list[str]:
    there = store.tracking_ids()
    if not there:
        raise DataError(f"{store.uri}: holds no tracks; jobs/invert.py --until tracks follows faces first")
    if wanted is not None and wanted not in there:
        raise ConfigError(f"--tracking {wanted}: {store.uri} holds {', '.join(there)}")
    return there if wanted is None else [wanted]


def _people(store: LatentStore, tracking_id: str) -> Iterator[tuple[TrackRecord, list[str]]]:
    """Each track with the names of the people that it follows."""
    for track in store.tracks(tracking_id):
        if track.clips:
            tensors = store.track_tensors(track)
            persons = {int(tensors[f"{clip.clip_id}.person"]) for clip in track.clips}
            yield track, [person_name(track.subject, person) for person in sorted(persons)]


def _names(people: Iterable[tuple[TrackRecord, list[str]]]) -> set[str]:
    return {name for _, names in people for name in names}


def _only_subject(store: LatentStore, by_tracking: dict[str, list[tuple[TrackRecord, list[str]]]]) -> str:
    names = sorted({name for people in by_tracking.values() for name in _names(people)})
    if len(names) != 1:
        shown = ", ".join(names) or "nobody"
        raise DataError(f"{store.uri}: shows {shown}; choose with --subject, several with commas between")
    return names[0]


def _refuse_absent(
    store: LatentStore,
    subjects: Sequence[str],
    by_tracking: dict[str, list[tuple[TrackRecord, list[str]]]],
) -> None:
    names = {name for people in by_tracking.values() for name in _names(people)}
    absent = [name for name in subjects if name not in names]
    if absent:
        raise DataError(
            f"--subject {','.join(subjects)}: {store.uri} holds no track of {', '.join(absent)}; it shows "
            f"{', '.join(sorted(names)) or 'nobody'}. jobs/invert.py --until tracks follows faces in footage"
        )
    raise DataError(
        f"--subject {','.join(subjects)}: {store.uri} holds them, but not tracked in one way; track their "
        "footage again with equal --faces and --people"
    )


def _clips(store: LatentStore, track: TrackRecord, subjects: Sequence[str]) -> Iterator[FittedClip]:
    source, tensors = source_of(store, track), store.track_tensors(track)
    for clip in track.clips:
        subject = person_name(track.subject, int(tensors[f"{clip.clip_id}.person"]))
        if subject in subjects:
            yield _clip(track, source, clip.clip_id, subject, tensors)


def _clip(
    track: TrackRecord,
    source: Source,
    clip_id: str,
    subject: str,
    tensors: dict[str, Tensor],
    pivots: tuple[ChunkRef, ...] = (),
) -> FittedClip:
    record = next(clip for clip in track.clips if clip.clip_id == clip_id)
    quad, time_s, interpolated = (
        tensors[f"{clip_id}.{name}"].numpy() for name in ("quad", "time_s", "interpolated")
    )
    clip = Clip(
        clip_id=clip_id,
        video_id=track.video_id,
        source=source,
        subject=subject,
        first_frame=record.first_frame,
        stop_frame=record.stop_frame,
        frame_rate_hz=track.frame_rate_hz,
        rules=facts_of(track.parameters).rules,
    )
    return FittedClip(clip, quad, time_s, _split(track, time_s, interpolated), track.landmarks, pivots)


def _split(track: TrackRecord, time_s: npt.NDArray[np.float64], interpolated: npt.NDArray[np.bool_]) -> Split:
    """The split by the time in the video; frames in which no face was seen are in neither part."""
    split = held_out_split(time_s, track.frame_count / track.frame_rate_hz)
    return Split(split.training & ~interpolated, split.held_out & ~interpolated)
