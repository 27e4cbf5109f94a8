"""What a decoder is: it gives the frames of an index as they were coded, and decides nothing about looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from svgan_ray.video.frame_index import FrameIndex

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["CodedFrame", "Decoder"]


class CodedFrame(NamedTuple):
    """A frame as it was coded; where it is not sound, the last sound one before it, if there is any."""

    picture: VideoFrame
    is_sound: bool


class Decoder(Protocol):
    """An open video file.

    name            part of a track's record
    index           its frames
    first           the picture that comes out first, by which a video is judged
    frame_rate_hz   the mean rate
    pixel_aspect    width of a pixel over its height, 1 where the file does not say
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
        """All frames from `start` on. Raises VideoError (`decode`) where not one can be decoded.

        A frame is unsound where the decoder flags it or cannot give it, and where it may depend on such a
        one: up to the next keyframe.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...
