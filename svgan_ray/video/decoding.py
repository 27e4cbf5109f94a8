"""The interface of a decoder: it returns the frames of an index as they were coded and converts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from svgan_ray.video.frame_index import FrameIndex

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["CodedFrame", "Decoder"]


class CodedFrame(NamedTuple):
    """A frame as it was coded; an unsound one is replaced by the last sound one before it, if any."""

    picture: VideoFrame
    is_sound: bool


class Decoder(Protocol):
    """An open video file.

    name            part of a track's record
    index           its frames
    first           the first decoded picture, which decides how the video is read
    frame_rate_hz   the mean rate
    pixel_aspect    width of a pixel divided by its height, 1 if the file does not name it
    """

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> FrameIndex: ...
    @property
    def first(self) -> VideoFrame: ...
    @property
    def frame_rate_hz(self) -> float: ...
    @property
    def pixel_aspect(self) -> float: ...

    def coded(self, start: int) -> Iterator[CodedFrame]:
        """All frames from `start` on. Raises VideoError (`decode`) if no frame can be decoded.

        A frame is unsound if the decoder flags it or cannot decode it. So are all frames after it up to the
        next keyframe, because they may depend on it.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...
