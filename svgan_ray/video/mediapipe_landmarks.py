"""Landmarks found by mediapipe (extra `face`): its full-range detector, then its face mesh on each face.

By itself, the mesh searches a picture that is reduced to 128 pixels, and misses faces narrower than an eighth
of the frame. The full-range detector finds faces down to about a sixteenth; the mesh then gets an enlarged
face.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import ConfigError
from svgan_ray.video.reading import Frames

__all__ = ["IBUG68_OF_MESH", "MediapipeLandmarks"]

_FULL_RANGE = 1
_MARGIN = 2.0  # side of the picture that the mesh gets, divided by the side of the detected box

# fmt: off
IBUG68_OF_MESH = [
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyelids
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,  # lips
]
"""The points of the mesh that are used as iBUG's 68; eyelids and mouth corners correspond exactly."""
# fmt: on

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]
Mesh: TypeAlias = Callable[[Pixels], NDArray[np.float64] | None]
"""A picture [h, w, 3] -> the mesh of the face in it [478, 2], from 0 to 1 across the picture."""


class MediapipeLandmarks:
    """Every face that mediapipe finds, frame by frame; each frame is treated independently.

    model   a FaceLandmarker `.task` file for the mesh; by default the model that mediapipe ships

    Raises ConfigError if mediapipe or the model is missing.
    """

    name = "mediapipe"

    def __init__(self, model: str | Path | None = None) -> None:
        try:
            self._release = importlib.metadata.version("mediapipe")
        except importlib.metadata.PackageNotFoundError as error:
            raise ConfigError(
                "faces: mediapipe is not installed; it comes with the extra `face` "
                "(pip install 'svgan-ray[face]'), or give landmarks in a sidecar file, or say "
                "that the face fills the picture (--faces aligned)"
            ) from error
        self._model = None if model is None else Path(model)
        if self._model and not self._model.is_file():
            raise ConfigError(
                f"face_model: {self._model}: no such file; expected a FaceLandmarker .task file"
            )

    @property
    def version(self) -> str:
        """Mediapipe's release, and the hash of the user's model if there is one."""
        if self._model is None:
            return self._release
        return f"{self._release}/{hashlib.sha256(self._model.read_bytes()).hexdigest()[:16]}"

    def detect(self, video: Frames) -> Points:
        """Landmarks [T, F, 68, 2]; F is the largest number of faces in a frame. NaN where there are fewer."""
        with _finder(self._model) as find:
            found = [find(frame) for frames in video.batches(0, video.info.frame_count) for frame in frames]
        points = np.full((len(found), max(map(len, found), default=0), 68, 2), np.nan, np.float32)
        for row, faces in zip(points, found, strict=True):
            for number, face in enumerate(faces):
                row[number] = face
        return points


@contextmanager
def _finder(model: Path | None) -> Iterator[Callable[[Pixels], list[Points]]]:
    """A function from a frame [H, W, 3] to the landmarks [68, 2] of each face in it."""
    from mediapipe import solutions

    mesh_of = _shipped_mesh() if model is None else _mesh_of_task(model)
    with solutions.face_detection.FaceDetection(model_selection=_FULL_RANGE) as detector, mesh_of as mesh:
        yield lambda frame: list(_faces(frame, detector, mesh))


def _faces(frame: Pixels, detector: Any, mesh: Mesh) -> Iterator[Points]:
    size = np.array([frame.shape[1], frame.shape[0]])
    for detection in detector.process(frame).detections or []:
        box = detection.location_data.relative_bounding_box
        extent = np.array([box.width, box.height]) * size
        centre = np.array([box.xmin, box.ymin]) * size + extent / 2
        reach = extent.max() * _MARGIN / 2
        low = np.clip(centre - reach, 0, size).astype(int)
        high = np.clip(centre + reach, 0, size).astype(int)
        part = np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]])
        points = mesh(part) if part.size else None
        if points is not None:
            yield (low + points[IBUG68_OF_MESH] * (high - low)).astype(np.float32)


@contextmanager
def _shipped_mesh() -> Iterator[Mesh]:
    from mediapipe import solutions

    options = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
    with solutions.face_mesh.FaceMesh(**options) as face_mesh:
        yield lambda picture: _first(face_mesh.process(picture).multi_face_landmarks, "landmark")


@contextmanager
def _mesh_of_task(model: Path) -> Iterator[Mesh]:
    from mediapipe import Image, ImageFormat
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(BaseOptions(model_asset_buffer=model.read_bytes()), num_faces=1)
    try:
        landmarker = vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"face_model: {model}: not a FaceLandmarker .task file: {error}") from error
    with landmarker:
        yield lambda picture: _first(landmarker.detect(Image(ImageFormat.SRGB, picture)).face_landmarks)


def _first(faces: Any, attribute: str | None = None) -> NDArray[np.float64] | None:
    """The first face in mediapipe's result, as landmarks [478, 2]; None if there is no face."""
    if not faces:
        return None
    landmarks = getattr(faces[0], attribute) if attribute else faces[0]
    return np.array([[point.x, point.y] for point in landmarks])
