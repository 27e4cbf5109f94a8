"""The sidecar format, whole and damaged, and footage that is aligned already."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from svgan_ray.errors import ConfigError, LandmarksError
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.landmarks import landmark_source, read_sidecar, sidecar_path, write_sidecar
from svgan_ray.video.reading import open_video
from svgan_ray.video.tracking import track
from tests.footage import face_points
from tests.video.media import encode, numbered_frames

ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.just(68), st.just(2))
    | st.tuples(st.integers(0, 3), st.integers(0, 3), st.just(68), st.just(2)),
    elements=st.floats(-1e5, 1e5, width=32) | st.just(float("nan")),
    fill=st.just(np.float32(3)),
)


@settings(max_examples=50, deadline=None)
@given(points=ROWS)
def test_a_sidecar_gives_back_what_was_written(points: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "talk.mp4"
        assert write_sidecar(video, points) == video.with_name("talk.mp4.landmarks.safetensors")
        read = read_sidecar(video)
        assert [path.name for path in Path(folder).iterdir()] == ["talk.mp4.landmarks.safetensors"]
    assert read.dtype == np.float32
    assert np.array_equal(read, points, equal_nan=True)


def test_the_source_reads_the_sidecar_of_an_open_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(30))
    points = face_points(30)
    points[3:5] = np.nan
    write_sidecar(path, points)
    source = landmark_source("sidecar")
    with open_video(path) as video:
        assert np.array_equal(source.detect(video), points, equal_nan=True)
    assert (source.name, source.version) == ("sidecar", "1")


@pytest.mark.parametrize("frames", [29, 31, 0])
def test_a_sidecar_of_another_frame_count_is_refused(tmp_path: Path, frames: int) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(30))
    write_sidecar(path, np.zeros((frames, 68, 2), np.float32))
    with open_video(path) as video, pytest.raises(LandmarksError, match=f"{frames} rows .* 30 frames"):
        landmark_source("sidecar").detect(video)


GOOD = np.zeros((3, 68, 2), np.float32)


@pytest.mark.parametrize(
    ("tensors", "layout", "message"),
    [
        ({"points": GOOD}, None, "layout"),
        ({"points": GOOD}, "mediapipe478", "mediapipe478"),
        ({"landmarks": GOOD}, "ibug68", "got none"),
        ({"points": GOOD[:, :5]}, "ibug68", r"got float32 \[3, 5, 2\]"),
        ({"points": GOOD.astype(np.float64)}, "ibug68", "got float64"),
        ({"points": GOOD[0]}, "ibug68", r"got float32 \[68, 2\]"),
        ({"points": GOOD[None, None]}, "ibug68", r"got float32 \[1, 1, 3, 68, 2\]"),
        ({"points": np.zeros((0,), np.float32)}, "ibug68", r"got float32 \[0\]"),
    ],
)
def test_a_malformed_sidecar_says_what_is_wrong(
    tmp_path: Path, tensors: dict, layout: str | None, message: str
) -> None:
    path = tmp_path / "a.mp4"
    save_file(tensors, sidecar_path(path), metadata=layout and {"layout": layout})
    with pytest.raises(LandmarksError, match=message):
        read_sidecar(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_sidecar_is_refused(tmp_path: Path, keep: int) -> None:
    sidecar = write_sidecar(tmp_path / "a.mp4", GOOD)
    sidecar.write_bytes(sidecar.read_bytes()[:keep])
    with pytest.raises(LandmarksError, match="not a safetensors file"):
        read_sidecar(tmp_path / "a.mp4")


def test_a_missing_sidecar_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LandmarksError, match="write_sidecar"):
        read_sidecar(tmp_path / "a.mp4")


def test_only_landmarks_are_written(tmp_path: Path) -> None:
    with pytest.raises(LandmarksError, match=r"\[3, 5, 2\]"):
        write_sidecar(tmp_path / "a.mp4", np.zeros((3, 5, 2)))


def test_an_unknown_source_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="sidecar, aligned"):
        landmark_source("dlib")


@pytest.mark.parametrize(("width", "height"), [(64, 64), (97, 65), (65, 97), (130, 66)])
def test_aligned_footage_is_its_centre_square_pixel_for_pixel(
    tmp_path: Path, width: int, height: int
) -> None:
    frames = numbered_frames(30, width, height)
    with open_video(encode(tmp_path / "a.mp4", frames, pix_fmt="yuv444p")) as video:
        [clip] = track(landmark_source("aligned").detect(video), video.time_s).clips
        read = video.read(0, 30)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    crops = crop_quads(read, clip.quad, side)
    assert np.array_equal(crops, read[:, top : top + side, left : left + side])
    assert not clip.interpolated.any()
