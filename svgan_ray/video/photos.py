"""A photo of a face: a video of one frame to whatever finds and crops faces in videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import DataError, LandmarksError
from svgan_ray.video.alignment import ffhq_axes, quads_of
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.landmarks import LandmarkSource
from svgan_ray.video.people import MIN_FACE_PX
from svgan_ray.video.reading import VideoInfo

__all__ = ["Photo", "face_of_photo"]


class Photo:
    """A picture file, upright as its camera held it. Raises DataError where it cannot be read."""

    def __init__(self, path: str | Path) -> None:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                self.pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))  # [H, W, 3]
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: not a picture that can be read ({error})") from error
        height, width = self.pixels.shape[:2]
        self.info = VideoInfo(Path(path), 1, width, height, 1.0, "pillow")

    def batches(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """The one frame [1, H, W, 3]."""
        yield self.pixels[None][start:stop]


def face_of_photo(path: str | Path, source: LandmarkSource, side: int) -> NDArray[np.uint8]:
    """The crop [side, side, 3] of the largest face in a photo.

    Raises DataError where the photo cannot be read, LandmarksError (`no_face`, `small_face`) where no usable
    face is in it.
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
