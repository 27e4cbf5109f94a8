"""Real video files for tests; every frame carries its number, readable after lossy coding."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

DATA = Path(__file__).parents[1] / "data"
"""Small files that other programs wrote."""

BITS = 8
CELL = 6


def numbered_frames(count: int, width: int = 96, height: int = 64) -> Pixels:
    """Frames [count, height, width, 3]: a moving texture, and the frame's number in bright cells."""
    y, x = np.mgrid[:height, :width]
    t = np.arange(count)[:, None, None]
    texture = np.stack([x + 3 * t, 2 * y + t, (x * y) // 16 - 2 * t], axis=-1) % 256
    frames = texture.astype(np.uint8)
    for bit in range(BITS):
        lit = (np.arange(count) >> bit) & 1
        frames[:, :CELL, bit * CELL : (bit + 1) * CELL] = (255 * lit)[:, None, None, None]
    return frames


def numbers_in(frames: Pixels) -> list[int]:
    """What `numbered_frames` wrote into frames [n, H, W, 3]."""
    middle = np.arange(BITS) * CELL + CELL // 2
    lit = frames[:, CELL // 2, middle].mean(axis=-1) > 127
    return [int(number) for number in lit @ (1 << np.arange(BITS))]


def encode(
    path: Path,
    frames: Pixels,
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    sound: bool = False,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write frames at times pts / rate, one after the other by default; with B-frames and keyframes."""
    options = {"bf": "3", "g": "12", "preset": "veryfast"} if options is None else options
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (number if pts is None else pts[number]), Fraction(1) / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _add_sound(container, audio, seconds=len(frames) / float(rate))
    return path


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        _add_sound(container, container.add_stream("aac", rate=16000, layout="mono"), seconds=1)
    return path


def _add_sound(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for block in range(int(seconds * 16000) // 1024):
        tone = np.sin(np.arange(1024) / 7)[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, block * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def rotated(source: Path, path: Path, degrees: int) -> Path:
    """A copy of an mp4 whose track header turns the picture clockwise, as phones record."""
    quarters = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    return with_matrix(source, path, quarters[degrees])


def with_matrix(source: Path, path: Path, matrix: Sequence[float]) -> Path:
    """A copy of an mp4 whose track header maps (p, q) to (a p + c q, b p + d q)."""
    data = bytearray(source.read_bytes())
    box = data.index(b"tkhd")
    place = box + 4 + 4 + (32 if data[box + 4] == 1 else 20) + 16
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def damaged_in_the_middle(path: Path) -> Path:
    """A copy of `base.mp4` with 400 zeros in its third group of pictures, frames 50 to 74 of 100."""
    data = bytearray((DATA / "base.mp4").read_bytes())
    data[42766:43166] = bytes(400)
    path.write_bytes(data)
    return path


def cut_at_start(source: Path, path: Path, seconds: float) -> Path:
    """A copy of an mp4 whose edit list leaves out the first seconds, as phones trim without re-encoding."""
    with av.open(str(source)) as container:
        unit = container.streams.video[0].time_base
    data = bytearray(source.read_bytes())
    media_time = data.index(b"elst") + 16
    (first,) = struct.unpack_from(">i", data, media_time)
    struct.pack_into(">i", data, media_time, first + round(seconds / unit))
    path.write_bytes(data)
    return path
