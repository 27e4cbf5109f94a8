"""Pictures of the store's clips: their aligned footage, and what the generator renders of their latents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.errors import ConfigError, DataError, InputError
from svgan_ray.latents.clips import resample
from svgan_ray.latents.windows import seeded, valid_segments
from svgan_ray.metrics.pixels import SnippetShape
from svgan_ray.orchestration.runtime.choosing import expand
from svgan_ray.orchestration.runtime.sources import Source, local_copy
from svgan_ray.store import CommitRecord, LatentStore, Snapshot, TrackRecord
from svgan_ray.video.cropping import crop_quads, crop_span
from svgan_ray.video.footage_facts import facts_of
from svgan_ray.video.reading import VideoReader, open_video

__all__ = ["aligned_footage", "footage_snippets", "longest_clip", "source_of", "track_of"]


def longest_clip(store: LatentStore, inversion_id: str, subject: str) -> CommitRecord:
    """The longest clip of a subject. Raises InputError if there is none."""
    records = [record for record in store.commits(inversion_id) if record.subject == subject]
    if not records:
        raise InputError(f"{store.uri}: no clip of {subject} in inversion {inversion_id}")
    return max(records, key=lambda record: (record.frames, record.clip_id))


def aligned_footage(
    store: LatentStore, record: CommitRecord, frames: int, side: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """The first `frames` frames of a clip as the encoder saw them, in batches [t, side, side, 3].

    Raises InputError if the video is gone or its content has changed.
    """
    quad = store.read_clip(record.inversion_id, record.clip_id).quad.numpy()
    with _video_of(store, record) as video:
        yield from crop_span(video, record.first_frame, quad[:frames], side)


def footage_snippets(
    store: LatentStore,
    snapshot: Snapshot,
    shape: SnippetShape,
    rate_hz: float,
    count: int,
    seed: int,
    side: int,
) -> Iterator[npt.NDArray[np.uint8]]:
    """`count` snippets [T, side, side, 3] from random places in a snapshot's footage, at `rate_hz`.

    They overlap only if there is too little footage. Each frame is the one nearest in time; no snippet
    crosses a gap. Raises DataError if no clip is long enough, InputError if a video is gone or has changed.
    """
    masks = [resample(clip, rate_hz)[1] for clip in store.snapshot_clips(snapshot)]
    places = [(number, first) for number, mask in enumerate(masks) for first in _starts(mask, shape)]
    if not places:
        span_s = shape.span_frames / rate_hz
        raise DataError(
            f"snapshot {snapshot.name}: no clip holds {span_s:.1f} s of pictures; add longer footage"
        )
    picks = _spread_picks(len(places), count, shape.span_frames, seed)
    chosen = [places[pick] for pick in picks]
    for number, clip in enumerate(store.snapshot_clips(snapshot)):
        firsts = [first for place, first in chosen if place == number]
        if not firsts:
            continue
        record = store.get_commit(snapshot.inversion_id, clip.clip_id)
        assert record is not None  # the snapshot holds committed clips
        elapsed_s, quad = (clip.time_s - clip.time_s[0]).numpy(), clip.quad.numpy()
        with _video_of(store, record) as video:
            for first in firsts:
                wanted_s = (first + shape.stride * np.arange(shape.frames)) / rate_hz
                frames = np.abs(elapsed_s - wanted_s[:, None]).argmin(1)  # [T]
                low, stop = int(frames[0]), int(frames[-1]) + 1
                span = video.read(record.first_frame + low, record.first_frame + stop)
                yield crop_quads(span[frames - low], quad[frames], side)


def _starts(mask: Tensor, shape: SnippetShape) -> list[int]:
    """The frames at which complete spans of a clip\'s valid frames [S] begin."""
    return [
        start
        for first, stop in valid_segments([mask])
        for start in range(first, stop - shape.span_frames + 1)
    ]


def _spread_picks(places: int, count: int, span: int, seed: int) -> list[int]:
    """`count` places in order: they are divided into `count` equal parts, and one is drawn from each."""
    random = torch.rand(count, generator=seeded("footage clips", seed, span), dtype=torch.float64)
    return ((torch.arange(count) + random) * places / count).long().tolist()


def track_of(store: LatentStore, record: CommitRecord) -> TrackRecord:
    """The track that a clip was inverted from. Raises InputError if it is gone."""
    track = store.get_track(record.tracking_id, record.video_id)
    if track is None:
        raise InputError(f"{store.uri}: clip {record.clip_id} has no track record; invert its video again")
    return track


def source_of(store: LatentStore, track: TrackRecord) -> Source:
    """The video that was tracked. Raises InputError if it is gone or its content has changed."""
    try:
        [source] = expand([track.uri])
    except ConfigError as error:
        raise InputError(f"{track.uri}: the footage is not there any more") from error
    if store.sources().get(source.id) != track.video_id:
        raise InputError(f"{track.uri} is not the file that was tracked; track or invert it again")
    return source


@contextmanager
def _video_of(store: LatentStore, record: CommitRecord) -> Iterator[VideoReader]:
    """The video that a clip was inverted from."""
    track = track_of(store, record)
    with open_video(local_copy(source_of(store, track))) as video:
        video.require_rules(facts_of(track.parameters).rules)
        yield video
