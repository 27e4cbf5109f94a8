"""Reading a video: every frame with its presentation time, any span of frames exactly.

Rotation metadata is applied: frames are as a player shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import VideoError
from svgan_ray.video.pyav_decoder import PyavDecoder

__all__ = ["Frames", "VideoInfo", "VideoReader", "open_video"]


_BATCH_FRAMES = 16
"""Full frames in memory at once: 100 MB at 1080p."""
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of an open video; sides are those shown, after rotation, and the rate is the mean one."""

    path: Path
    frame_count: int
    width: int
    height: int
    frame_rate_hz: float
    decoder: str


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
        self._pyav = pyav = PyavDecoder(path)
        self.time_s: NDArray[np.float64] = (pyav.pts - pyav.pts[0]) * pyav.time_base
        self.info = VideoInfo(path, len(pyav.pts), pyav.width, pyav.height, pyav.frame_rate_hz, pyav.name)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames start ... stop - 1 as uint8 RGB [n, H, W, 3]; VideoError (`decode`) where one is damaged."""
        if not 0 <= start <= stop <= self.info.frame_count:
            raise IndexError(f"{self.info.path}: frames {start} ... {stop} of {self.info.frame_count}")
        if start == stop:
            return np.empty((0, self.info.height, self.info.width, 3), np.uint8)
        return self._pyav.read(start, stop)

    def batches(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """What `read` gives, a few frames at a time, so that a long span needs little memory."""
        for first in range(start, stop, _BATCH_FRAMES):
            yield self.read(first, min(first + _BATCH_FRAMES, stop))

    def close(self) -> None:
        """Release the file."""
        self._pyav.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    no_timestamps    frames cannot be told apart by their time
    decode           the first frame cannot be decoded (reading raises it for later ones)
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
            head = file.read(16)
            kinds.append(head[4:8])
            length = int.from_bytes(head[:4])
            length = int.from_bytes(head[8:16]) if length == 1 else length or size - position
            if kinds[0] not in _FIRST_BOXES or length < 8:
                return False
            position += length
    return position != size or b"moov" not in kinds
