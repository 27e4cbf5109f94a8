"""From a coded frame to the picture that everybody else sees: the one place that decides how a video looks.

A picture is whole (not interlaced), in BT.709 SDR, in square pixels and upright, as players show it.
Landmarks, quads and what is pasted back lie in this picture. docs/footage.md tells what is done to a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from svgan_ray.video.decoding import CodedFrame
from svgan_ray.video.deinterlacing import Deinterlacer
from svgan_ray.video.tone_mapping import HDR_TRANSFERS, OPERATOR, ToneMapper

if TYPE_CHECKING:
    from av import VideoFrame
    from av.sidedata.sidedata import SideData

__all__ = ["Orientation", "PictureRules", "orientation_of", "upright"]

INTERLACED = "interlaced (bwdif)"
CHANGING_SIZE = "changing size (fitted into the first)"
DAMAGED = "damaged (the last sound picture is held)"
"""Rules that the frames of a video decide, beside those that its first picture decides."""

_BT2020, _UNKNOWN = 9, (0, 2)  # codes of ITU-T H.273
_TOLERANCE_DEGREES = 1.0
_LIKELY_ASPECTS = (0.2, 5.0)
"""A damaged header may say anything, and pictures a thousand times as wide would fill the memory."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Orientation:
    """What a display matrix does to a picture, in this order: swap its axes, mirror it, turn it clockwise."""

    is_transposed: bool = False
    is_mirrored: bool = False
    """Left and right change places."""
    is_flipped: bool = False
    """So do top and bottom."""
    degrees: float = 0.0
    """An angle that is no multiple of 90: the sides stay, as in ffmpeg's autorotate; corners are black."""

    @property
    def is_quarter_turn(self) -> bool:
        """Whether it turns by 0, 90, 180 or 270 degrees and mirrors nothing."""
        return self.degrees == 0 and (self.is_transposed + self.is_mirrored + self.is_flipped) % 2 == 0


def orientation_of(matrix: NDArray[np.int32]) -> Orientation:
    """Of a display matrix [a, b, u, c, d, v, x, y, w] (ISO/IEC 14496-12): (p, q) -> (ap + cq, bp + dq).

    All eight that map a rectangle's sides onto sides; other angles as in ffmpeg, which takes the sense of the
    turn from the first column and no mirror beside it.
    """
    a, b, _, c, d = (float(value) for value in matrix[:5])
    scale_x, scale_y = math.hypot(a, c), math.hypot(b, d)
    if scale_x == 0 or scale_y == 0:
        return Orientation()
    degrees = math.degrees(math.atan2(b / scale_y, a / scale_x)) % 360
    quarter = round(degrees / 90)
    if abs(degrees - 90 * quarter) > _TOLERANCE_DEGREES:
        return Orientation(degrees=degrees)
    if quarter % 2:
        return Orientation(is_transposed=True, is_mirrored=c < 0, is_flipped=b < 0)
    return Orientation(is_mirrored=a < 0, is_flipped=d < 0)


def upright(pixels: Pixels, orientation: Orientation) -> Pixels:
    """A picture [H, W, 3] as it is to be seen."""
    if orientation.is_transposed:
        pixels = pixels.swapaxes(0, 1)
    if orientation.is_mirrored:
        pixels = pixels[:, ::-1]
    if orientation.is_flipped:
        pixels = pixels[::-1]
    return _turned(pixels, orientation.degrees) if orientation.degrees else pixels


def _turned(pixels: Pixels, degrees: float) -> Pixels:
    """Clockwise about the centre, bilinear."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.rotate(-degrees, Image.Resampling.BILINEAR))


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


class PictureRules:
    """The rules of one video; its first picture decides which of them apply.

    width, height  of the pictures that leave
    names          what is done beyond quarter turns, details in brackets; part of clips' ids
    warnings       sentences on what cannot be known
    """

    def __init__(self, first: VideoFrame, pixel_aspect: float) -> None:
        from av.video.reformatter import VideoReformatter

        self._orientation = _orientation_of_picture(first)
        self._coded_sides = first.width, first.height
        self._transfer = HDR_TRANSFERS.get(int(first.color_trc))
        self._tone_mapper = ToneMapper(self._transfer) if self._transfer else None
        self._deinterlacer = Deinterlacer()
        self._reformatter = VideoReformatter()
        is_likely = _LIKELY_ASPECTS[0] <= pixel_aspect <= _LIKELY_ASPECTS[1]
        self.warnings = _warnings(first, None if is_likely else pixel_aspect)
        pixel_aspect = pixel_aspect if is_likely else 1.0
        turned = self._orientation.is_transposed  # other angles leave the sides
        height, width = self._coded_sides if turned else self._coded_sides[::-1]
        # The height stays, and the width is rounded down, as in ffmpeg's `scale=iw*sar:ih`.
        square_width = max(1, int(width * (1 / pixel_aspect if turned else pixel_aspect) + 1e-9))
        self.width, self.height = square_width, height
        self._sides = (height, square_width) if turned else (square_width, height)  # before it is upright
        self._is_square = self._sides == self._coded_sides
        self.names = self._names()

    def _names(self) -> tuple[str, ...]:
        names = {
            f"turned ({self._orientation.degrees:.2f} degrees)": self._orientation.degrees != 0,
            "mirrored": not self._orientation.is_quarter_turn and self._orientation.degrees == 0,
            f"non-square pixels (to {self.width} x {self.height})": not self._is_square,
            f"HDR ({self._transfer} to BT.709 by {OPERATOR})": self._transfer is not None,
        }
        return tuple(name for name, applies in names.items() if applies)

    def names_of(self, frame: CodedFrame) -> set[str]:
        """The rules that apply to a frame beside those of the whole video."""
        picture = frame.picture
        names = {
            INTERLACED: picture.interlaced_frame,
            CHANGING_SIZE: (picture.width, picture.height) != self._coded_sides,
            DAMAGED: not frame.is_sound,
        }
        return {name for name, applies in names.items() if applies}

    def names_by(self, first: VideoFrame) -> tuple[str, ...]:
        """All rules that a video's first picture shows to be needed."""
        return tuple(sorted({*self.names, *self.names_of(CodedFrame(first, is_sound=True))}))

    def whole(self, frames: Iterator[CodedFrame], before: VideoFrame | None) -> Iterator[VideoFrame]:
        """The pictures of frames in order, whole where they were interlaced; `before` comes before them."""
        pictures = (frame.picture for frame in frames)
        for picture, after in pairwise(_with_end(pictures)):
            assert picture is not None
            if picture.interlaced_frame:
                yield self._deinterlacer(before or picture, picture, after or picture)
            else:
                yield picture
            before = picture

    def pixels(self, picture: VideoFrame) -> Pixels:
        """A whole picture as uint8 RGB [height, width, 3]."""
        if (picture.width, picture.height) != self._coded_sides:
            return upright(self._fitted(picture), self._orientation)
        if self._orientation.degrees and not self._is_square:  # ffmpeg turns first
            return _resized(upright(self._rgb(picture, *self._coded_sides), self._orientation), *self._sides)
        return upright(self._rgb(picture, *self._sides), self._orientation)

    def _rgb(self, picture: VideoFrame, width: int, height: int) -> Pixels:
        """In SDR and of this size, not yet upright."""
        from av.video.reformatter import Interpolation

        pixel_format = "gbrp16le" if self._tone_mapper else "rgb24"
        if (picture.width, picture.height) == (width, height):
            rgb = self._reformatter.reformat(picture, format=pixel_format, threads=1)
        else:
            rgb = self._reformatter.reformat(
                picture, width, height, pixel_format, interpolation=Interpolation.BICUBIC, threads=1
            )
        return self._tone_mapper(rgb) if self._tone_mapper else np.asarray(rgb.to_ndarray(), np.uint8)

    def _fitted(self, picture: VideoFrame) -> Pixels:
        """A picture of another size than the first: in the middle, as large as it can be."""
        width, height = self._sides
        pixel_aspect = self._sides[0] / self._coded_sides[0] * self._coded_sides[1] / self._sides[1]
        scale = min(width / (picture.width * pixel_aspect), height / picture.height)
        inner_width = max(1, round(picture.width * pixel_aspect * scale))
        inner_height = max(1, round(picture.height * scale))
        pixels = np.zeros((height, width, 3), np.uint8)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        inner = self._rgb(picture, inner_width, inner_height)
        pixels[top : top + inner_height, left : left + inner_width] = inner
        return pixels


def _with_end(pictures: Iterator[VideoFrame]) -> Iterator[VideoFrame | None]:
    yield from pictures
    yield None


def _orientation_of_picture(picture: VideoFrame) -> Orientation:
    for data in cast("Iterator[SideData]", iter(picture.side_data)):  # PyAV's types promise a mapping
        if data.type.name == "DISPLAYMATRIX":
            return orientation_of(np.frombuffer(bytes(data), np.int32))
    return Orientation()


def _warnings(picture: VideoFrame, unlikely_aspect: float | None) -> tuple[str, ...]:
    warnings = []
    if int(picture.colorspace) == _BT2020 and int(picture.color_trc) in _UNKNOWN:
        warnings.append("its colours are BT.2020's, and it does not say whether HDR: they are read as SDR")
    if unlikely_aspect is not None:
        warnings.append(
            f"its pixels are said to be {unlikely_aspect:g} times as wide as high: taken as square"
        )
    return tuple(warnings)
