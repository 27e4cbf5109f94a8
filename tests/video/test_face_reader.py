"""What is read from a mesh whose pose is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from svgan_ray.errors import DataError
from svgan_ray.video.face_reader import FaceReadings, blink_threshold, count_blinks, readings_of

Floats = NDArray[np.float64]


def face(eye: float = 0.3, mouth: float = 0.2, width: float = 0.9) -> Floats:
    """A mesh [478, 3] that looks straight ahead; only the points that are read are where they belong."""
    mesh = np.zeros((478, 3))
    for corners, lids, middle in (
        ((33, 133), ((160, 144), (159, 145), (158, 153)), -0.5),
        ((362, 263), ((385, 380), (386, 374), (387, 373)), 0.5),
    ):
        mesh[corners[0], 0], mesh[corners[1], 0] = middle - 0.15, middle + 0.15
        for place, (upper, lower) in zip((-0.05, 0, 0.05), lids, strict=True):
            mesh[upper, :2], mesh[lower, :2] = (middle + place, -0.15 * eye), (middle + place, 0.15 * eye)
    mesh[13, :2], mesh[14, :2] = (0, 0.8 - mouth / 2), (0, 0.8 + mouth / 2)
    mesh[61, :2], mesh[291, :2] = (-width / 2, 0.8), (width / 2, 0.8)
    mesh[127], mesh[356] = (-0.8, 0, 0.5), (0.8, 0, 0.5)
    mesh[10], mesh[2] = (0, -0.7, 0), (0, 0.5, 0)
    return mesh


def turned(mesh: Floats, axis: int, degrees: float) -> Floats:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(3)
    i, j = (k for k in range(3) if k != axis)
    rotation[i, i], rotation[i, j], rotation[j, i], rotation[j, j] = c, -s, s, c
    return mesh @ rotation.T


def test_openings_and_place() -> None:
    mesh = 0.1 * face(eye=0.25, mouth=0.3, width=0.8) + np.array([0.4, 0.6, 0])
    read = readings_of(mesh[None])
    assert read.right_eye[0] == pytest.approx(0.25) and read.left_eye[0] == pytest.approx(0.25)
    assert read.mouth_opening[0] == pytest.approx(0.3) and read.mouth_width[0] == pytest.approx(0.8)
    assert (read.x[0], read.y[0]) == pytest.approx((0.4, 0.6))
    assert (read.yaw_deg[0], read.pitch_deg[0], read.roll_deg[0]) == pytest.approx((0, 0, 0))


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("yaw_deg", 1, 1), ("pitch_deg", 0, 1), ("roll_deg", 2, 1)]
)
def test_a_turn_is_read_as_itself_alone(name: str, axis: int, sign: int) -> None:
    read = readings_of(np.stack([turned(face(), axis, angle) for angle in (-20, 10, 25)]))
    assert sign * getattr(read, name) == pytest.approx((-20, 10, 25), abs=1e-6)
    for other in {"yaw_deg", "pitch_deg", "roll_deg"} - {name}:
        assert getattr(read, other) == pytest.approx((0, 0, 0), abs=1e-6)
    assert read.mouth_width == pytest.approx((0.9,) * 3)
    nod = np.cos(np.radians((-20, 10, 25))) if axis == 0 else np.ones(3)  # the one that shortens openings
    assert read.mouth_opening == pytest.approx(0.2 * nod) and read.left_eye == pytest.approx(0.3 * nod)


def readings(eyes: list[float]) -> FaceReadings:
    return readings_of(
        np.stack([face(eye) if np.isfinite(eye) else np.full((478, 3), np.nan) for eye in eyes])
    )


def test_blinks_are_counted_with_the_footages_threshold() -> None:
    footage = readings([0.3] * 30 + [0.1] * 3 + [0.3] * 5 + [0.05, np.nan, 0.06] + [0.3] * 10 + [0.1])
    threshold = blink_threshold(footage)
    assert threshold == pytest.approx(0.18)
    assert count_blinks(footage, threshold) == 3
    assert count_blinks(readings([0.3, 0.19, 0.3, 0.2]), threshold) == 0
    assert count_blinks(footage[33:38], threshold) == 0


def test_other_meshes_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected \[T, 478, 3\], got \[2, 468, 3\]"):
        readings_of(np.zeros((2, 468, 3)))
