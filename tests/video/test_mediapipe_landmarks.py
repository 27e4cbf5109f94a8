"""mediapipe on a photograph that matplotlib, which comes with it, ships; and what happens without it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svgan_ray.errors import ConfigError
from svgan_ray.store import open_store
from svgan_ray.video.alignment import ffhq_axes
from svgan_ray.video.landmarks import landmark_source
from svgan_ray.video.people import find_people
from svgan_ray.video.reading import open_video
from svgan_ray.video.tracking import track
from svgan_ray.video.writing import write_video
from tests.video.faces import has_mediapipe, make_task, needs_mediapipe, scene
from tests.video.media import encode

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:google")

EYE_CENTRES = np.array([[222, 191], [306, 187]])  # in the photograph, where a person sees the pupils


def detect(tmp_path: Path, frames: list[np.ndarray], model: Path | None = None) -> np.ndarray:
    write_video(tmp_path / "a.mp4", np.stack(frames), 25)
    with open_video(tmp_path / "a.mp4") as video:
        return landmark_source("mediapipe", model).detect(video)


@pytest.mark.skipif(has_mediapipe, reason="needs the extra `face` to be absent")
def test_without_mediapipe_the_extra_is_named() -> None:
    with pytest.raises(ConfigError, match="extra `face`"):
        landmark_source("mediapipe")


@needs_mediapipe
def test_a_face_is_found_where_it_is_and_nothing_where_there_is_none(tmp_path: Path) -> None:
    frames = [scene([(0, 0, 540)]), scene([]), scene([(300, 0, 540)])]
    points = detect(tmp_path, frames)
    assert points.shape == (3, 1, 68, 2)
    assert np.isnan(points[1]).all()
    for row, left in ((0, 0), (2, 300)):
        eyes = np.stack([points[row, 0, 36:42].mean(axis=0), points[row, 0, 42:48].mean(axis=0)])
        assert np.abs((eyes - [left, 0]) * 600 / 540 - EYE_CENTRES).max() < 4
    assert points[2] - points[0] == pytest.approx(np.broadcast_to([300, 0], (1, 68, 2)), abs=2.5)
    _, x, _ = ffhq_axes(points[0])
    assert 250 < 2 * x[0, 0] * 600 / 540 < 480
    assert (points[0, 0, [36, 48], 0] < points[0, 0, [45, 54], 0]).all()  # the image's left comes first


@needs_mediapipe
def test_frames_do_not_influence_each_other(tmp_path: Path) -> None:
    frames = np.stack([scene([(100 + 60 * k, 0, 400)], 640, 400) for k in range(4)])
    results = []
    for number, shown in enumerate((frames, frames[::-1])):
        path = encode(tmp_path / f"{number}.mp4", shown, options={"qp": "0"})  # without loss
        with open_video(path) as video:
            results.append(landmark_source("mediapipe").detect(video))
    assert np.isfinite(results[0]).all()
    assert np.array_equal(results[0], results[1][::-1])


@needs_mediapipe
def test_two_people_are_two_tracks(tmp_path: Path) -> None:
    frames = [scene([(20 + k, 60, 420), (500, 10, 300)][: 2 if k < 16 else 1]) for k in range(24)]
    points = detect(tmp_path, frames)
    people = find_people(points, np.arange(24) / 25)
    assert people.count == 2
    first, second = people.chosen("all")
    assert [int(np.isfinite(one[:, 0, 0]).sum()) for one in (first, second)] == [24, 16]
    [clip] = track(first, np.arange(24) / 25).clips
    assert clip.quad[-1, 0, 0] - clip.quad[0, 0, 0] == pytest.approx(23, abs=3)  # who moves is the longer one


@needs_mediapipe
def test_a_task_file_of_the_users(tmp_path: Path) -> None:
    task = make_task(tmp_path / "face.task")
    frames = [scene([(200, 0, 540)])]
    ours, theirs = detect(tmp_path, frames), detect(tmp_path, frames, task)
    assert theirs.shape == (1, 1, 68, 2)
    assert np.isfinite(theirs).all()
    assert not np.array_equal(theirs, ours)
    release = importlib.metadata.version("mediapipe")
    assert landmark_source("mediapipe").version == release
    assert landmark_source("mediapipe", task).version.startswith(f"{release}/")


@needs_mediapipe
def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        landmark_source("mediapipe", tmp_path / "absent.task")
    (tmp_path / "bad.task").write_bytes(b"not a bundle")
    with pytest.raises(ConfigError, match="not a FaceLandmarker"):
        detect(tmp_path, [scene([])], tmp_path / "bad.task")


@needs_mediapipe
@pytest.mark.cluster
def test_raw_footage_is_inverted_and_its_crops_follow_the_face(tmp_path: Path) -> None:
    """With the older numpy and protobuf that come with mediapipe, beside Ray and MLflow."""
    x = 200 + 40 * np.sin(2 * np.pi * 0.4 * np.arange(75) / 25)  # in pixels, at 0.4 Hz
    (tmp_path / "footage").mkdir()
    write_video(tmp_path / "footage" / "a.mp4", np.stack([scene([(int(at), 20, 400)]) for at in x]), 25)
    flags = ("--videos", "footage", "--faces", "mediapipe", "--weights", "demo", "--store", "store")
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / "invert.py", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    store = open_store(tmp_path / "store")
    [inversion_id] = store.inversion_ids()
    [commit] = store.commits(inversion_id)
    quad = store.read_clip(inversion_id, commit.clip_id).quad  # [T, 4, 2]
    moved = quad.double().mean(dim=1)[:, 0].numpy()
    assert len(moved) == 75
    assert np.ptp(moved) == pytest.approx(80, rel=0.1)
    assert np.corrcoef(moved, x)[0, 1] > 0.99
