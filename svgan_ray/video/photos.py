"""A photo of a face as a video of one frame, so that the code for videos can find and crop its face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import DataError, LandmarksError
from svgan_ray.video.alignment import ffhq_axes, quads_of
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.landmarks import LandmarkSource
from svgan_ray.video.people import MIN_FACE_PX
from svgan_ray.video.reading import VideoInfo

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Photo", "face_of_photo"]

_GREY = 128
_HEIC_KINDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class Photo:
    """A picture file, turned upright as its camera recorded. Raises DataError if it cannot be read.

    Transparent pictures get a grey background; 16 bits become 8. HEIC is read if pillow-heif is installed.
    """

    def __init__(self, path: str | Path) -> None:
        from PIL import Image, ImageOps, UnidentifiedImageError

        opens_heic = _open_heic_too()
        try:
            with Image.open(path) as image:
                self.pixels = _rgb(ImageOps.exif_transpose(image))  # [H, W, 3]
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            hint = ": HEIC needs the package pillow-heif; install it, or save the photo as JPEG"
            cause = hint if _is_heic(Path(path)) and not opens_heic else f" ({error})"
            raise DataError(f"{path}: not a picture that can be read{cause}") from error
        height, width = self.pixels.shape[:2]
        self.info = VideoInfo(Path(path), 1, width, height, 1.0, "pillow")

    def batches(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """The one frame [1, H, W, 3]."""
        yield self.pixels[None][start:stop]


def _open_heic_too() -> bool:
    """Let Pillow open HEIC, too; False if pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _is_heic(path: Path) -> bool:
    """Whether a file is an HEIF container; its kind is written after the word `ftyp`."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(12)
    return first[4:8] == b"ftyp" and first[8:12] in _HEIC_KINDS


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels [H, W, 3] of a picture in any mode."""
    from PIL import Image

    if image.mode.startswith("I"):  # grey in 16 bits, which Pillow would clip at 255
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return np.repeat((deep / 257).round().astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (_GREY, _GREY, _GREY, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def face_of_photo(path: str | Path, source: LandmarkSource, side: int) -> NDArray[np.uint8]:
    """The crop [side, side, 3] of the largest face in a photo.

    Raises DataError if the photo cannot be read, and LandmarksError (`no_face`, `small_face`) if it shows no
    usable face.
    """
    photo = Photo(path)
    points = source.detect(photo)
    centre, x, y = ffhq_axes(points.reshape(-1, 68, 2))  # [faces, 2]
    face_px = np.nan_to_num(2 * np.hypot(x[:, 0], x[:, 1]))  # [faces]
    if not face_px.any():
        raise LandmarksError(
            f"{path}: no face was found; take another photo, or crop it around the face and say that it is "
            "aligned (--faces aligned)",
            "no_face",
        )
    if face_px.max() < MIN_FACE_PX:
        raise LandmarksError(
            f"{path}: the largest face has a crop of {face_px.max():.0f} pixels; expected at least "
            f"{MIN_FACE_PX}",
            "small_face",
        )
    largest = quads_of(centre, x, y)[[face_px.argmax()]]
    return np.asarray(crop_quads(photo.pixels[None], largest, side)[0])
