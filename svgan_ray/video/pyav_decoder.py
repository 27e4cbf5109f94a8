"""The PyAV decoder: it lists a video's frames by presentation time, and decodes any span of them exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["PyavDecoder"]

Pixels = NDArray[np.uint8]


class PyavDecoder:
    """An open video file.

    pts             [T] int64, presentation times in units of `time_base`, increasing; frame k has pts[k]
    time_base       seconds a unit
    frame_rate_hz   the mean rate
    width, height   sides of the picture as it is shown, after rotation
    """

    name = "pyav"

    def __init__(self, path: Path) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._reformatter = VideoReformatter()
        self._open()
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        import av

        with _as_video_error(self._path, "not_a_video"):
            self._container = av.open(str(self._path))

    @property
    def _stream(self) -> VideoStream:
        return _video_stream(self._container, self._path)

    def _index(self) -> None:
        stream = self._stream
        with _as_video_error(self._path, "truncated"):
            stamps = _stamps_in_file_order(self._container, stream, self._path)
        self.pts = _presentation_times(stamps, self._path)
        self.time_base = float(stream.time_base or 1)
        self.frame_rate_hz = _mean_rate_hz(self.pts, self.time_base) or float(stream.guessed_rate or 25)
        self._next = -1
        self._frames = self._from(0)
        first = self._take(0)
        self._quarter_turns = round(first.rotation / 90) % 4
        sides = (first.height, first.width)
        self.height, self.width = sides[::-1] if self._quarter_turns % 2 else sides

    def read(self, start: int, stop: int) -> Pixels:
        """Frames start ... stop - 1 as [n, height, width, 3]; VideoError (`decode`) where one is damaged."""
        pixels = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        if start != self._next:
            self._frames = self._from(start)
        self._next = -1  # until all went well
        for number, target in enumerate(pixels, start):
            target[:] = self._rgb(self._take(number))
        self._next = stop
        return pixels

    def _take(self, number: int) -> VideoFrame:
        with _as_video_error(self._path, "decode"):
            frame = next(self._frames, None)
        if frame is None or frame.pts != self.pts[number]:
            raise VideoError(
                f"{self._path}: frame {number} cannot be decoded in its place: the file is damaged or its "
                "times are wrong; copy it again or re-encode it (ffmpeg -i in out.mp4)",
                "decode",
            )
        return frame

    def _from(self, start: int) -> Iterator[VideoFrame]:
        """Frames from `start` on, decoded from the keyframe before it.

        Without an index (a transport stream) seeking may land too late: then from the beginning.
        """
        self._container.seek(int(self.pts[start]), stream=self._stream)
        frames = self._decoded(start)
        first = next(frames, None)
        if first is None or first.pts != self.pts[start]:
            self.close()
            self._open()
            frames = self._decoded(start)
            first = next(frames, None)
        if first is not None:
            yield first
        yield from frames

    def _decoded(self, start: int) -> Iterator[VideoFrame]:
        """Frames from where the file stands, less those shown before `start`."""
        for frame in self._container.decode(self._stream):
            if frame.pts is not None and frame.pts >= self.pts[start]:
                yield frame

    def _rgb(self, frame: VideoFrame) -> Pixels:
        picture = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        turned: Pixels = np.rot90(picture, self._quarter_turns).astype(np.uint8, copy=False)
        if turned.shape[:2] != (self.height, self.width):
            raise VideoError(
                f"{self._path}: pictures change from {self.width} x {self.height} to "
                f"{turned.shape[1]} x {turned.shape[0]}: re-encode it at one size",
                "decode",
            )
        return turned

    def close(self) -> None:
        """Release the file."""
        self._container.close()


@contextlib.contextmanager
def _as_video_error(path: Path, reason: str) -> Iterator[None]:
    """PyAV's errors, whatever their kind, become one VideoError."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: {reason.replace('_', ' ')}: {error}", reason) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition
    from av.video.stream import VideoStream

    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise VideoError(f"{path}: has no video stream, only sound or data", "no_video_stream")
    if getattr(stream, "codec_context", None) is None:
        raise VideoError(f"{path}: its codec is unknown: re-encode it as H.264", "unknown_codec")
    if container.format.name.endswith("_pipe"):
        raise VideoError(f"{path}: is a picture, not a video", "not_a_video")
    return stream


def _stamps_in_file_order(container: InputContainer, stream: VideoStream, path: Path) -> list[int]:
    """Stamps of all frames that are shown; an edit list may cut others away. Nothing is decoded."""
    if any(entry.pos + entry.size > container.size for entry in stream.index_entries):
        raise VideoError(f"{path}: the file ends before its last frame: copy it again", "truncated")
    stamps = []
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise VideoError(f"{path}: the file ends within a frame: copy it again", "truncated")
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.pts is None:
            raise _timeless(path)
        stamps.append(packet.pts)
    return stamps


def _presentation_times(stamps: list[int], path: Path) -> NDArray[np.int64]:
    """Times [T] in order of presentation."""
    if not stamps:
        raise VideoError(f"{path}: has no frame", "no_frames")
    times = np.unique(stamps)
    if len(times) != len(stamps):
        raise _timeless(path)
    return times


def _timeless(path: Path) -> VideoError:
    message = f"{path}: frames lack a presentation time of their own: re-encode it (ffmpeg -i in out.mp4)"
    return VideoError(message, "no_timestamps")


def _mean_rate_hz(pts: NDArray[np.int64], time_base: float) -> float | None:
    return (len(pts) - 1) / (float(pts[-1] - pts[0]) * time_base) if len(pts) > 1 else None
