"""Reading a video: every frame with its presentation time, any span of frames exactly.

Frames are as a player shows them: picture_rules.py says how.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import VideoError
from svgan_ray.video.decoding import Decoder
from svgan_ray.video.picture_rules import PictureRules
from svgan_ray.video.pyav_decoder import PyavDecoder, first_picture

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["Frames", "Survey", "VideoInfo", "VideoReader", "open_video", "rules_at_a_glance"]


_BATCH_FRAMES = 16
"""Full frames in memory at once: 100 MB at 1080p."""
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of an open video; sides are those of the pictures read, and the rate is the mean one."""

    path: Path
    frame_count: int
    width: int
    height: int
    frame_rate_hz: float
    decoder: str
    mends: Mapping[str, int] = field(default_factory=dict)
    """How often its times were mended in which way; see frame_index.MENDS."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Survey:
    """What only a look at every frame of a video tells.

    is_damaged  [T] bool, frames that libav flags or cannot decode, and those up to the next keyframe
    rules       what was done to the pictures that earlier versions of the reader did not do, sorted
    """

    is_damaged: NDArray[np.bool_]
    rules: tuple[str, ...]


class Frames(Protocol):
    """What finds faces needs no more of a video than this."""

    @property
    def info(self) -> VideoInfo: ...

    def batches(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]: ...


class VideoReader:
    """An open video, a context manager.

    info    frame count, sides, mean rate, decoder
    time_s  [T] float64, presentation time of every frame, increasing from 0
    """

    def __init__(self, path: Path) -> None:
        self._decoder: Decoder = PyavDecoder(path)
        decoder = self._decoder
        self._rules = rules = PictureRules(decoder.first, decoder.pixel_aspect)
        self._next = -1
        self._pictures: Iterator[VideoFrame] = iter(())
        index = decoder.index
        self.time_s: NDArray[np.float64] = index.time_s
        self.info = VideoInfo(
            path=path,
            frame_count=len(index.keys),
            width=rules.width,
            height=rules.height,
            frame_rate_hz=decoder.frame_rate_hz,
            decoder=decoder.name,
            mends=index.mends,
            warnings=rules.warnings,
        )

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames start ... stop - 1 as uint8 RGB [n, H, W, 3].

        A damaged frame shows the last sound one before it. Raises VideoError (`decode`, `interlaced`).
        """
        if not 0 <= start <= stop <= self.info.frame_count:
            raise IndexError(f"{self.info.path}: frames {start} ... {stop} of {self.info.frame_count}")
        pixels = np.empty((stop - start, self.info.height, self.info.width, 3), np.uint8)
        if start != self._next:
            self._pictures = self._pictures_from(start)
        self._next = -1  # until all went well
        for target, picture in zip(pixels, self._pictures, strict=False):
            target[:] = self._rules.pixels(picture)
        self._next = stop
        return pixels

    def _pictures_from(self, start: int) -> Iterator[VideoFrame]:
        """The pictures from a frame on; an interlaced one takes its neighbour before it too."""
        frames = self._decoder.coded(start)
        first = next(frames, None)
        if first is None:
            return iter(())
        if start == 0 or not first.picture.interlaced_frame:
            return self._rules.whole(chain([first], frames), None)
        frames = self._decoder.coded(start - 1)
        return self._rules.whole(frames, next(frames).picture)

    def require_rules(self, rules: Collection[str]) -> None:
        """Raises VideoError (`tracked_otherwise`) where pictures need rules that they were not tracked by."""
        missing = sorted(set(self._rules.names_by(self._decoder.first)) - set(rules))
        if missing:
            message = (
                f"{self.info.path}: was tracked by a version that read its pictures otherwise "
                f"(without: {', '.join(missing)}); invert it into another store"
            )
            raise VideoError(message, "tracked_otherwise")

    def survey(self) -> Survey:
        """Decode every frame once, without making pictures of them. Raises VideoError (`decode`)."""
        self._next = -1
        rules, is_damaged = set(self._rules.names), np.zeros(self.info.frame_count, bool)
        for number, frame in enumerate(self._decoder.coded(0)):
            is_damaged[number] = not frame.is_sound
            rules |= self._rules.names_of(frame)
        return Survey(is_damaged, tuple(sorted(rules)))

    def batches(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """What `read` gives, a few frames at a time, so that a long span needs little memory."""
        for first in range(start, stop, _BATCH_FRAMES):
            yield self.read(first, min(first + _BATCH_FRAMES, stop))

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rules_at_a_glance(path: str | Path) -> tuple[str, ...]:
    """The rules that a file's first picture shows to be needed; a survey may find more. Raises VideoError."""
    picture, pixel_aspect = first_picture(Path(path))
    return PictureRules(picture, pixel_aspect).names_by(picture)


def open_video(path: str | Path) -> VideoReader:
    """Open a video file; use it in a `with`.

    Raises VideoError with one of these reasons:
    missing          no such file
    empty            no bytes in it
    not_a_video      no known container
    truncated        the file ends early
    no_video_stream  sound or data only
    unknown_codec    nothing here decodes it
    no_frames        a video stream without frames
    decode           none of its frames can be decoded
    interlaced       pictures cannot be made whole (reading raises it)
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file", "missing")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty", "empty")
    try:
        return VideoReader(path)
    except VideoError as error:
        if error.reason != "truncated" and _is_cut_off_mp4(path):
            message = f"{path}: an mp4 that lacks its end, as an interrupted recording or copy leaves it"
            raise VideoError(message, "truncated") from error
        raise


def _is_cut_off_mp4(path: Path) -> bool:
    """Whether a file starts as mp4 or mov and ends within a box, or before the box `moov` with its index.

    Boxes follow each other, each after its length (1: in 8 more bytes, 0: up to the end) and its type.
    """
    size, position, kinds = path.stat().st_size, 0, list[bytes]()
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            kinds.append(header[4:8])
            length = int.from_bytes(header[:4])
            length = int.from_bytes(header[8:16]) if length == 1 else length or size - position
            if kinds[0] not in _FIRST_BOXES or length < 8:
                return False
            position += length
    return position != size or b"moov" not in kinds
