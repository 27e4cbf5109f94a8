"""The PyAV decoder: it lists a video's frames, and gives any span of them as they were coded.

What a picture needs beyond decoding (picture_rules.py) comes after it, whatever decodes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from svgan_ray.errors import VideoError
from svgan_ray.video.decoding import CodedFrame
from svgan_ray.video.frame_index import FrameIndex, PacketTable, index_by_number, index_by_stamp

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["PyavDecoder", "first_picture"]

_CHECKED_FRAMES = 12
"""So many first frames show whether a file's stamps are in the order in which its pictures come out."""
_STEPS_BACK = (0, 64, 1024)
"""Where a seek has led to no keyframe before the frame that is sought, another one begins so much earlier."""
_CLOCKLESS = "avi"
"""This container knows no times: the demuxer's are a guess wherever pictures are reordered."""
_BROADCAST = frozenset({"mpegts", "mpeg"})
"""Containers of transmissions and of tapes, which may begin anywhere, and be joined and cut anywhere."""


class _Decoded(NamedTuple):
    """What came out of the decoder for frame `number`; not certain where decoding began after a seek and no
    keyframe came yet.
    """

    number: int
    picture: VideoFrame
    is_sound: bool
    is_certain: bool


class PyavDecoder:
    """An open video file; see decoding.Decoder."""

    name = "pyav"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        try:
            self._list_frames()
        except BaseException:
            self.close()
            raise

    def coded(self, start: int) -> Iterator[CodedFrame]:
        """All frames from `start` on; see decoding.Decoder."""
        count = len(self.index.keys)
        held, frames = self._from(start)
        number = start
        for frame in frames:
            while number < frame.number:  # frames that never came
                yield CodedFrame(held or frame.picture, False)
                number += 1
            if frame.number == number:
                held = frame.picture if frame.is_sound else held
                yield CodedFrame(held or frame.picture, frame.is_sound)
                number += 1
        for _ in range(number, count):
            if held is None:
                raise _undecodable(self._path)
            yield CodedFrame(held, False)

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    # Listing

    def _open(self) -> None:
        import av

        with _as_video_error(self._path, "not_a_video"):
            self._container = av.open(str(self._path))
        self._packets_read = 0

    @property
    def _stream(self) -> VideoStream:
        return _video_stream(self._container, self._path)

    def _list_frames(self) -> None:
        stream = self._stream
        unit_s, rate_hz = float(stream.time_base or 1), float(stream.guessed_rate or 25)
        self.pixel_aspect = float(stream.sample_aspect_ratio or 1)
        is_broadcast = bool(_BROADCAST & set(self._container.format.name.split(",")))
        with _as_video_error(self._path, "truncated"):
            self._table = _packet_table(self._container, stream, self._path, may_be_cut=is_broadcast)
        self._numbers_by_place = {place: number for number, place in enumerate(self._table.places)}
        index = None if self._has_no_clock(stream) else index_by_stamp(self._table, unit_s)
        if index is None or not self._is_in_order(index):
            numbers = self._numbers_in_order()
            index = index_by_number(numbers, self._table, unit_s, 1 / rate_hz, is_broadcast)
            self._use(index)
        self.frame_rate_hz = _mean_rate_hz(index) or rate_hz

    def _use(self, index: FrameIndex) -> None:
        self.index = index
        self._number_of = {key: number for number, key in enumerate(index.keys.tolist())}

    def _has_no_clock(self, stream: VideoStream) -> bool:
        """Whether the stamps are made up; those of pictures that refer to no other one are right even so."""
        return self._container.format.name == _CLOCKLESS and not stream.codec_context.codec.intra_only

    def _is_in_order(self, index: FrameIndex) -> bool:
        """Whether the first frames come out soundly and in the order of their stamps."""
        self._use(index)
        first = list(islice(self._decoded(None), _CHECKED_FRAMES))
        expected = range(min(_CHECKED_FRAMES, len(index.keys)))
        if not all(frame.is_sound for frame in first) or [frame.number for frame in first] != [*expected]:
            return False
        self.first = first[0].picture
        return True

    def _numbers_in_order(self) -> list[int]:
        """The packets of all frames in the order in which they come out, from a whole decoding."""
        self._use(FrameIndex(np.arange(len(self._table.stamps)), np.empty(0), is_numbered=True))
        frames = self._decoded(None)
        first = next(frames, None)
        if first is None:
            raise _undecodable(self._path)
        self.first = first.picture
        return list(dict.fromkeys([first.number, *(frame.number for frame in frames)]))

    # Decoding

    def _from(self, start: int) -> tuple[VideoFrame | None, Iterator[_Decoded]]:
        """Frames from `start` on, and the last sound one before it, so far as it is needed."""
        for begin in [*(start - back for back in _STEPS_BACK if start > back), None]:
            held, frames = None, self._decoded(begin)
            for frame in frames:
                if frame.number >= start:
                    is_found = frame.number == start and frame.is_certain and (frame.is_sound or held)
                    if is_found or begin is None:
                        return held, _with_first(frame, frames)
                    break
                held = frame.picture if frame.is_sound else held
        return held, iter(())

    def _decoded(self, begin: int | None) -> Iterator[_Decoded]:
        """What the decoder gives from the keyframe before frame `begin` on, or from the file's beginning.

        Without an index (a transport stream) seeking may land too late.
        """
        is_certain = begin is None or not self._seek(begin)
        if is_certain:
            self.close()
            self._open()
        stream, is_sound = self._stream, True
        for packet in self._packets(stream):
            pictures = self._pictures(stream, packet)
            for picture in pictures or ():
                is_sound = not picture.is_corrupt and (is_sound or picture.key_frame)
                is_certain |= is_sound and picture.key_frame
                number = self._number_of.get(picture.pts) if picture.pts is not None else None
                if number is not None:
                    yield _Decoded(number, picture, is_sound, is_certain)
            is_sound &= pictures is not None

    def _packets(self, stream: VideoStream) -> Iterator[Packet[VideoStream] | None]:
        """Packets from where the file stands, numbered if frames are known by numbers, None at the end."""
        packets = self._container.demux(stream)
        while True:
            with _as_video_error(self._path, "decode"):
                packet = next(packets, None)
            if packet is None:
                break
            if packet.size == 0:
                continue
            if self.index.is_numbered:
                packet.pts = packet.dts = self._packets_read
            self._packets_read += 1
            yield packet
        yield None

    def _pictures(self, stream: VideoStream, packet: Packet[VideoStream] | None) -> list[VideoFrame] | None:
        """None where the decoder refuses a packet."""
        import av

        try:
            return stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            return None

    def _seek(self, begin: int) -> bool:
        """Whether decoding can go on from a keyframe before a frame."""
        key = int(self.index.keys[begin])
        if not self.index.is_numbered:
            with _as_video_error(self._path, "decode"):
                self._container.seek(key, stream=self._stream)
            return True
        keyframes = np.flatnonzero(np.array(self._table.keyframes[: key + 1]))
        if len(keyframes) < 2:
            return False
        number = int(keyframes[-2])  # the last but one: pictures may refer beyond the last
        return self._seek_packet(number)

    def _seek_packet(self, number: int) -> bool:
        """Seek a packet or an earlier one by its time of decoding, and tell by its place which one it is."""
        sought = self._table.decode_times[number]
        if sought is None or len(self._numbers_by_place) < len(self._table.places):
            return False
        with _as_video_error(self._path, "decode"):
            self._container.seek(sought, stream=self._stream)
            landed = next((p for p in self._container.demux(self._stream) if p.size), None)
            if landed is None or self._numbers_by_place.get(landed.pos, number + 1) > number:
                return False
            self._container.seek(sought, stream=self._stream)
        self._packets_read = self._numbers_by_place[landed.pos]
        return True


def _with_first(first: _Decoded, rest: Iterator[_Decoded]) -> Iterator[_Decoded]:
    yield first
    yield from rest


def first_picture(path: Path) -> tuple[VideoFrame, float]:
    """The first picture that comes out of a file, and the aspect of its pixels. Raises VideoError."""
    import av

    with _as_video_error(path, "not_a_video"), av.open(str(path)) as container:
        stream = _video_stream(container, path)
        picture = next(container.decode(stream), None)
        if picture is None:
            raise _undecodable(path)
        return picture, float(stream.sample_aspect_ratio or 1)


@contextlib.contextmanager
def _as_video_error(path: Path, reason: str) -> Iterator[None]:
    """PyAV's errors, whatever their kind, become one VideoError."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, IndexError) as error:  # IndexError: of a stream that damage brought
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


def _packet_table(
    container: InputContainer, stream: VideoStream, path: Path, may_be_cut: bool
) -> PacketTable:
    """The packets of all frames. Nothing is decoded. Raises VideoError where the file lacks its end."""
    if any(entry.pos + entry.size > container.size for entry in stream.index_entries):
        raise VideoError(f"{path}: the file ends before its last frame: copy it again", "truncated")
    table = PacketTable()
    for packet in container.demux(stream):
        if packet.is_corrupt and not may_be_cut:
            raise VideoError(f"{path}: the file ends within a frame: copy it again", "truncated")
        if packet.size:
            table.append(packet)
    if not table.stamps:
        raise VideoError(f"{path}: has no frame", "no_frames")
    return table


def _undecodable(path: Path) -> VideoError:
    message = f"{path}: none of its frames can be decoded: copy it again, or re-encode it as H.264"
    return VideoError(message, "decode")


def _mean_rate_hz(index: FrameIndex) -> float | None:
    return (len(index.keys) - 1) / float(index.time_s[-1]) if len(index.keys) > 1 else None
