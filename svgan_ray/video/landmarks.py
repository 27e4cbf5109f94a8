"""Sources of face landmarks (68 points, iBUG layout): a sidecar file, mediapipe, or footage that is already
aligned.

A source treats each frame by itself. Which face belongs to which person is decided later (people.py), and so
are gaps and smoothing (tracking.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import ConfigError, LandmarksError
from svgan_ray.files import write_whole
from svgan_ray.video.alignment import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from svgan_ray.video.mediapipe_landmarks import MediapipeLandmarks
from svgan_ray.video.reading import Frames

__all__ = [
    "LANDMARK_SOURCES",
    "AlignedFootage",
    "LandmarkSource",
    "SidecarLandmarks",
    "landmark_source",
    "read_sidecar",
    "sidecar_path",
    "write_sidecar",
]

LAYOUT = "ibug68"

Points = NDArray[np.float32]


class LandmarkSource(Protocol):
    """Finds the faces in every frame. Name and version are part of a tracking's identity."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def detect(self, video: Frames) -> Points:
        """Landmarks in pixels (x, y; pixel centres at +0.5), NaN where there is no face.

        The shape is [T, 68, 2] for a single subject, or [T, F, 68, 2] for up to F faces a frame in any order.
        """
        ...


class SidecarLandmarks:
    """Landmarks in a file beside the video, `<video file name>.landmarks.safetensors`."""

    name = "sidecar"
    version = "1"

    def detect(self, video: Frames) -> Points:
        """Landmarks of every frame; LandmarksError if the sidecar is missing or belongs to another video."""
        points = read_sidecar(video.info.path)
        if len(points) != video.info.frame_count:
            raise LandmarksError(
                f"{sidecar_path(video.info.path)}: {len(points)} rows of landmarks for a video of "
                f"{video.info.frame_count} frames; write it again with one row a frame, NaN where no face is"
            )
        return points


class AlignedFootage:
    """Footage in which a face already fills the frame as in FFHQ; the crop is each frame's centre square.

    This source returns landmarks whose FFHQ crop is exactly that square, so that later steps need no special
    case.
    """

    name = "aligned"
    version = "1"

    def detect(self, video: Frames) -> Points:
        """The same landmarks for every frame."""
        width, height = video.info.width, video.info.height
        side = min(width, height)
        corner = np.array([(width - side) // 2, (height - side) // 2])  # whole pixels: copied, not resampled
        centre = corner + side / 2
        eye_to_eye, eye_to_mouth = np.array([side / 4, 0]), np.array([0, side * 5 / 32])
        eyes = centre - eye_to_mouth / 10
        face = np.repeat(centre[None], 68, axis=0)
        face[LEFT_EYE], face[RIGHT_EYE] = eyes - eye_to_eye / 2, eyes + eye_to_eye / 2
        face[MOUTH_CORNERS] = eyes + eye_to_mouth
        return np.repeat(face[None].astype(np.float32), video.info.frame_count, axis=0)


LANDMARK_SOURCES = ("sidecar", "aligned", "mediapipe")


def landmark_source(faces: str, model: str | Path | None = None) -> LandmarkSource:
    """The source with this name; `model` is for mediapipe only. Raises ConfigError."""
    if faces == "mediapipe":
        return MediapipeLandmarks(model)
    sources: dict[str, type[LandmarkSource]] = {"sidecar": SidecarLandmarks, "aligned": AlignedFootage}
    if faces not in sources:
        raise ConfigError(f"faces: expected one of {', '.join(LANDMARK_SOURCES)}, got {faces!r}")
    return sources[faces]()


def sidecar_path(video_path: str | Path) -> Path:
    """`talk.mp4` -> `talk.mp4.landmarks.safetensors`."""
    return Path(f"{video_path}.landmarks.safetensors")


def write_sidecar(video_path: str | Path, points: NDArray[np.floating]) -> Path:
    """Write landmarks of a video beside it; the file appears complete or not at all. Returns its path.

    Landmarks are [T, 68, 2] for one subject, or [T, F, 68, 2] for up to F faces a frame in any order; NaN
    where there is no face.
    """
    from safetensors.numpy import save

    if not _is_landmarks(points):
        raise LandmarksError(f"landmarks of {video_path}: expected {_SHAPES}, got {list(points.shape)}")
    path = sidecar_path(video_path)
    tensors = {"points": np.ascontiguousarray(points, dtype=np.float32)}
    write_whole(path, save(tensors, metadata={"layout": LAYOUT}))
    return path


def read_sidecar(video_path: str | Path) -> Points:
    """Landmarks of a video as they were written; LandmarksError if the sidecar is missing or malformed."""
    from safetensors import SafetensorError, safe_open

    path = sidecar_path(video_path)
    if not path.is_file():
        raise LandmarksError(
            f"{path}: no such file; write it with svgan_ray.video.landmarks.write_sidecar, "
            "let mediapipe find the faces (--faces mediapipe), or say that the footage is aligned"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            layout = (file.metadata() or {}).get("layout")
            points = file.get_tensor("points") if "points" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LandmarksError(f"{path}: not a safetensors file: {error}") from error
    if layout != LAYOUT:
        raise LandmarksError(f"{path}: metadata `layout`: expected {LAYOUT!r}, got {layout!r}")
    if points is None or points.dtype != np.float32 or not _is_landmarks(points):
        got = "none" if points is None else f"{points.dtype} {list(points.shape)}"
        raise LandmarksError(f"{path}: tensor `points`: expected float32 {_SHAPES}, got {got}")
    return np.asarray(points)


_SHAPES = "[T, 68, 2] or [T, F, 68, 2]"


def _is_landmarks(points: NDArray[np.floating]) -> bool:
    return points.ndim in (3, 4) and points.shape[-2:] == (68, 2)
