"""Pastes generated motion into a video of the subject, frame by frame along the face's track."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from svgan_ray.errors import ConfigError, DataError
from svgan_ray.files import file_sha256
from svgan_ray.latents.clips import ClipLatents
from svgan_ray.store import CommitRecord, LatentStore
from svgan_ray.video.pasting import paste_back
from svgan_ray.video.reading import open_video

__all__ = ["PasteTarget", "paste_target", "pasted_frames"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PasteTarget:
    """A span of a video, and where the face is in it.

    quads    [T, 4, 2] corners of the crop in pixels, as `paste_back` takes them
    numbers  [T] which generated frame each frame of the video shows
    """

    video: Path
    first_frame: int
    frame_rate_hz: float
    width: int
    height: int
    quads: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]

    @property
    def generated_frames(self) -> int:
        """The number of frames to generate."""
        return int(self.numbers[-1]) + 1


def paste_target(
    video: str, store: LatentStore, inversion_id: str, subject: str, seconds: float, rate_hz: float
) -> PasteTarget:
    """The longest clip of `subject` in a video that the store holds, at most its first `seconds`.

    `rate_hz` is that of the generated frames; a frame of the video shows the one that is nearest in time.
    Raises ConfigError if there is no such file, DataError if the store has no such clip.
    """
    path = Path(video).expanduser()
    if not path.is_file():
        raise ConfigError(f"--paste-into {video}: no such file; name a video that was inverted")
    clip = _longest_clip(video, store, inversion_id, file_sha256(path), subject)
    latents = store.read_clip(inversion_id, clip.clip_id)
    time_s = (latents.time_s - latents.time_s[0]).numpy()
    count = int((time_s < seconds).sum())
    return _target(path, clip, latents, np.rint(time_s[:count] * rate_hz).astype(np.int64))


def _longest_clip(
    video: str, store: LatentStore, inversion_id: str, video_id: str, subject: str
) -> CommitRecord:
    clips = [record for record in store.commits(inversion_id) if record.video_id == video_id]
    if not clips:
        raise DataError(
            f"--paste-into {video}: {store.uri} holds no clip of this file in the model's inversion; invert "
            "it with the model's weights first, or name --store"
        )
    own = [record for record in clips if record.subject == subject]
    if not own:
        shown = ", ".join(sorted({record.subject for record in clips}))
        raise DataError(
            f"--paste-into {video}: it shows {shown}, and the generated video {subject}; only somebody's own "
            "video takes their generated face"
        )
    return max(own, key=lambda record: record.frames)


def _target(
    path: Path, clip: CommitRecord, latents: ClipLatents, numbers: npt.NDArray[np.int64]
) -> PasteTarget:
    with open_video(path) as reader:
        info = reader.info
    return PasteTarget(
        path,
        clip.first_frame,
        info.frame_rate_hz,
        info.width - info.width % 2,  # as H.264 needs them
        info.height - info.height % 2,
        latents.quad[: len(numbers)].numpy(),
        numbers,
    )


def pasted_frames(target: PasteTarget, generated: Iterator[Pixels]) -> Iterator[Pixels]:
    """Frames [H, W, 3] of the video in which generated crops [S, S, 3], taken in order, cover the face."""
    crop, number = next(generated), 0
    with open_video(target.video) as video:
        place = 0
        for frames in video.batches(target.first_frame, target.first_frame + len(target.numbers)):
            for frame in frames:
                while number < target.numbers[place]:
                    crop, number = next(generated), number + 1
                quad = target.quads[place : place + 1]
                yield paste_back(frame[None], crop[None], quad)[0, : target.height, : target.width]
                place += 1
