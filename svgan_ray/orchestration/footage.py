"""What clips of the store look like: their aligned footage, and what the generator makes of their latents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from svgan_ray.errors import InputError
from svgan_ray.orchestration.inversion.sources import expand, local_copy
from svgan_ray.store import CommitRecord, LatentStore
from svgan_ray.video.cropping import crop_span
from svgan_ray.video.reading import open_video

__all__ = ["aligned_footage", "longest_clip"]


def longest_clip(store: LatentStore, inversion_id: str, subject: str) -> CommitRecord:
    """The longest clip of a subject. Raises InputError where there is none."""
    records = [record for record in store.commits(inversion_id) if record.subject == subject]
    if not records:
        raise InputError(f"{store.uri}: no clip of {subject} in inversion {inversion_id}")
    return max(records, key=lambda record: (record.frames, record.clip_id))


def aligned_footage(
    store: LatentStore, record: CommitRecord, frames: int, side: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """The first `frames` frames of a clip as the encoder saw them, batches [t, side, side, 3].

    Raises InputError where the video is gone or is another one now.
    """
    track = store.get_track(record.tracking_id, record.video_id)
    if track is None:
        raise InputError(f"{store.uri}: clip {record.clip_id} has no track record; invert its video again")
    [source] = expand([track.uri])
    if store.sources().get(source.id) != record.video_id:
        raise InputError(f"{track.uri} is not the file that was inverted; invert it again")
    quad = store.read_clip(record.inversion_id, record.clip_id).quad.numpy()
    with open_video(local_copy(source)) as video:
        yield from crop_span(video, record.first_frame, quad[:frames], side)
