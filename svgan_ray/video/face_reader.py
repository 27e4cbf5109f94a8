"""A reader of real faces: mediapipe's face mesh (extra `face`), picture by picture, as a few numbers.

What it reads from footage, from its reconstruction and from generated video can be compared: how far the eyes
and the mouth are open, how the head is turned and where it is. Each picture is read by itself, and nothing is
smoothed. The mesh's depth is relative: its angles serve to compare, not to survey.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from svgan_ray.errors import DataError

__all__ = ["BLINK_SHARE", "FaceReadings", "blink_threshold", "count_blinks", "face_reader", "readings_of"]

BLINK_SHARE = 0.6
"""An eye that is open less than this share of what is usual is in a blink."""
_USUAL_PERCENTILE = 80

_MESH_SIDE = 256  # smaller pictures are enlarged: the mesh misses faces in them
_POINTS = 478

# Points of the mesh; right and left are the person's own.
_RIGHT_LIDS, _RIGHT_CORNERS = ((160, 144), (159, 145), (158, 153)), (33, 133)
_LEFT_LIDS, _LEFT_CORNERS = ((387, 373), (386, 374), (385, 380)), (263, 362)
_LIPS, _MOUTH_CORNERS = (13, 14), (61, 291)
_TEMPLES, _UPRIGHT = (127, 356), (10, 2)  # forehead and the nose's base: the jaw moves none of them

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FaceReadings:
    """One number a frame [T]; NaN where no face is found.

    right_eye, left_eye           distance of the lids over the eye's width
    mouth_opening, mouth_width    distance of the lips, and of the mouth's corners, over that of the eyes
    yaw_deg, pitch_deg, roll_deg  how the head is turned
    x, y                          the middle between the eyes, in shares of the picture's side
    """

    right_eye: Floats
    left_eye: Floats
    mouth_opening: Floats
    mouth_width: Floats
    yaw_deg: Floats
    pitch_deg: Floats
    roll_deg: Floats
    x: Floats
    y: Floats

    @property
    def eyes(self) -> Floats:
        """Mean opening of both."""
        return (self.right_eye + self.left_eye) / 2

    def __len__(self) -> int:
        return len(self.yaw_deg)

    def __getitem__(self, rows: slice | NDArray[Any]) -> FaceReadings:
        return FaceReadings(*(getattr(self, f.name)[rows] for f in fields(self)))


def readings_of(mesh: Floats) -> FaceReadings:
    """Meshes [T, 478, 3], x and y in shares of a square picture and z in the same unit -> what they say.

    Openings are taken in the picture's plane, since the mesh's depth is poorest inside eyes and mouth; what
    they are divided by, in space, so that a turned head does not seem to open its eyes.
    """
    if mesh.ndim != 3 or mesh.shape[1:] != (_POINTS, 3):
        raise DataError(f"face mesh: expected [T, {_POINTS}, 3], got {list(mesh.shape)}")
    mesh = np.asarray(mesh, np.float64)
    right, left = (mesh[:, corners].mean(axis=1) for corners in (_RIGHT_CORNERS, _LEFT_CORNERS))
    apart = _length(left - right)
    across = mesh[:, _TEMPLES[1]] - mesh[:, _TEMPLES[0]]  # from the picture's left to its right
    down = mesh[:, _UPRIGHT[1]] - mesh[:, _UPRIGHT[0]]
    middle = (right + left) / 2
    return FaceReadings(
        right_eye=_opening(mesh, _RIGHT_LIDS, _RIGHT_CORNERS),
        left_eye=_opening(mesh, _LEFT_LIDS, _LEFT_CORNERS),
        mouth_opening=_distance(mesh[..., :2], _LIPS) / apart,
        mouth_width=_distance(mesh, _MOUTH_CORNERS) / apart,
        yaw_deg=np.degrees(np.arctan2(across[:, 2], across[:, 0])),
        pitch_deg=np.degrees(np.arctan2(down[:, 2], down[:, 1])),
        roll_deg=np.degrees(np.arctan2((left - right)[:, 1], (left - right)[:, 0])),
        x=middle[:, 0],
        y=middle[:, 1],
    )


class _Reader:
    """Pictures in batches uint8 [n, S, S, 3] -> readings of all of them."""

    def __init__(self, face_mesh: Any) -> None:
        self._face_mesh = face_mesh

    def __call__(self, batches: Iterable[Pixels]) -> FaceReadings:
        return readings_of(
            np.stack([self._mesh(picture) for batch in batches for picture in _enlarged(batch)])
        )

    def _mesh(self, picture: Pixels) -> Floats:
        found = self._face_mesh.process(picture).multi_face_landmarks
        if not found:
            return np.full((_POINTS, 3), np.nan)
        return np.array([[point.x, point.y, point.z] for point in found[0].landmark])


@contextmanager
def face_reader() -> Iterator[_Reader]:
    """A reader of square pictures that a face fills, as in FFHQ. Raises ConfigError without mediapipe."""
    from svgan_ray.video.mediapipe_landmarks import MediapipeLandmarks

    MediapipeLandmarks()  # which says what is missing, and how to get it
    from mediapipe import solutions

    options = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
    with solutions.face_mesh.FaceMesh(**options) as face_mesh:
        yield _Reader(face_mesh)


def blink_threshold(footage: FaceReadings) -> float:
    """Mean eye opening below which a frame is in a blink: the footage's, for all that is made of it."""
    return BLINK_SHARE * float(np.nanpercentile(footage.eyes, _USUAL_PERCENTILE))


def count_blinks(readings: FaceReadings, threshold: float) -> int:
    """Runs of frames whose mean eye opening is below the threshold; unread frames do not end a run."""
    eyes = readings.eyes
    closed = eyes[np.isfinite(eyes)] < threshold
    return int(np.count_nonzero(np.diff(closed.astype(np.int8), prepend=0) == 1))


def _opening(mesh: Floats, lids: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> Floats:
    heights = np.mean([_distance(mesh[..., :2], pair) for pair in lids], axis=0)
    return np.asarray(heights / _distance(mesh, corners))


def _distance(mesh: Floats, pair: tuple[int, int]) -> Floats:
    return _length(mesh[:, pair[0]] - mesh[:, pair[1]])


def _length(vectors: Floats) -> Floats:
    return np.asarray(np.linalg.norm(vectors, axis=-1))


def _enlarged(batch: Pixels) -> Pixels:
    if batch.shape[1] >= _MESH_SIDE:
        return batch
    pixels = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float()
    larger = F.interpolate(pixels, size=(_MESH_SIDE, _MESH_SIDE), mode="bicubic", align_corners=False)
    return np.ascontiguousarray(larger.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
