"""Footage that the stages of an inversion are tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svgan_ray.store import LatentStore, open_store
from svgan_ray.video.landmarks import write_sidecar
from tests.footage import face_points, make_video


@pytest.fixture
def store(tmp_path: Path) -> LatentStore:
    return open_store(tmp_path / "store", create=True)


@pytest.fixture
def two_people(tmp_path: Path) -> Path:
    """A video whose sidecar holds two faces a frame in changing order, one of them for half of the time."""
    video = make_video(tmp_path / "two" / "anna.mp4", 80)
    first, second = face_points(80), face_points(80) + np.float32([300, 0])
    second[40:] = np.nan
    faces = np.stack([first, second], axis=1)
    faces[::2] = faces[::2, ::-1]
    write_sidecar(video, faces)
    return video
