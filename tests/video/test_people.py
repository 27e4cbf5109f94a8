"""Faces become people: followed by where they are, through crossings and gaps, never by their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.errors import LandmarksError
from svgan_ray.video.alignment import ffhq_axes
from svgan_ray.video.people import find_people
from tests.footage import face_points

ONE_FACE = face_points(1)[0] - face_points(1)[0].mean(axis=0)  # eyes 16 px apart, its crop 64 px wide


def moving(centres: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Landmarks [T, 68, 2] of a face whose middle is at centres [T, 2]."""
    return (scale * ONE_FACE + centres[:, None]).astype(np.float32)


def standing(frames: int, x: float, scale: float = 1.0) -> np.ndarray:
    return moving(np.tile([x, 100.0], (frames, 1)), scale)


def times(frames: int, rate_hz: float = 25) -> np.ndarray:
    return np.arange(frames) / rate_hz


def shuffled(people: list[np.ndarray], seed: int = 0) -> np.ndarray:
    """Landmarks [T, F, 68, 2] with the faces of every frame in an order of its own."""
    rng = np.random.default_rng(seed)
    faces = np.stack(people, axis=1)
    return np.stack([frame[rng.permutation(len(frame))] for frame in faces])


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 4),
    frames=st.integers(1, 60),
    missing=st.floats(0, 0.4),
    seed=st.integers(0, 2**16),
)
def test_people_are_told_apart_whatever_the_order_of_their_faces(
    count: int, frames: int, missing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    people = [standing(frames, 100.0 + 90 * k) + rng.normal(0, 0.7, (frames, 1, 2)) for k in range(count)]
    for points in people:
        points[1:][rng.random(frames - 1) < missing] = np.nan
    found = find_people(shuffled(people, seed), times(frames))
    assert found.count == count
    chosen = found.chosen("all")
    seen = [int(np.isfinite(points[:, 0, 0]).sum()) for points in chosen]
    assert seen == sorted(seen, reverse=True)
    for person in people:
        assert any(np.array_equal(points, person, equal_nan=True) for points in chosen)


def test_the_longest_is_followed_and_a_rank_chooses_another() -> None:
    passer_by, speaker = standing(80, 100), standing(80, 300)
    passer_by[40:] = np.nan
    found = find_people(np.stack([passer_by, speaker], axis=1), times(80))
    [longest] = found.chosen("longest")
    assert np.array_equal(longest, speaker)  # not the first face of the frame
    assert np.array_equal(found.chosen("2")[0], passer_by, equal_nan=True)
    assert len(found.chosen("all")) == 2
    with pytest.raises(LandmarksError, match=r"person 3 .* only 2") as caught:
        found.chosen("3")
    assert caught.value.reason == "no_such_person"


@pytest.mark.parametrize("rate_hz", [25, 60])
@pytest.mark.parametrize("hidden_frames", [0, 5, 10])
def test_two_who_cross_keep_their_identity(rate_hz: int, hidden_frames: int) -> None:
    """One passes in front of the other, who is hidden for a while."""
    frames = 2 * rate_hz
    way = np.linspace(0, 240, frames)
    left = moving(np.stack([100 + way, np.full(frames, 100.0)], axis=1))
    right = moving(np.stack([340 - way, np.full(frames, 108.0)], axis=1))
    middle = slice(frames // 2 - hidden_frames // 2, frames // 2 + (hidden_frames + 1) // 2)
    right[middle] = np.nan
    chosen = find_people(shuffled([left, right]), times(frames, rate_hz)).chosen("all")
    assert len(chosen) == 2
    expected = [left, right]
    if hidden_frames == 0 and not np.array_equal(chosen[0], left):
        expected = [right, left]
    for points, person in zip(chosen, expected, strict=True):
        assert np.array_equal(points, person, equal_nan=True)


def test_who_comes_back_where_he_left_is_the_same_and_elsewhere_somebody_new() -> None:
    here, there = standing(200, 100), standing(200, 400)
    here[50:150] = np.nan
    there[:70] = there[90:] = np.nan
    found = find_people(shuffled([here, there]), times(200))
    assert np.array_equal(found.chosen("longest")[0], here, equal_nan=True)
    assert found.count == 2


def test_a_cut_to_another_size_is_another_person() -> None:
    near, far = standing(100, 200, scale=2.0), standing(100, 200)
    near[60:] = far[:60] = np.nan
    assert find_people(shuffled([near, far]), times(100)).count == 2


def test_one_subject_given_as_such_stays_one_wherever_it_jumps() -> None:
    points = standing(60, 100)
    points[30:] += 500
    found = find_people(points, times(60))
    assert found.count == 1
    assert np.array_equal(found.chosen("longest")[0], points)


@pytest.mark.parametrize("shape", [(20, 68, 2), (20, 0, 68, 2), (20, 3, 68, 2)])
def test_no_face_at_all_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LandmarksError, match="no face in any of 20 frames") as caught:
        find_people(np.full(shape, np.nan, np.float32), times(20))
    assert caught.value.reason == "no_face"


@pytest.mark.parametrize(("scale", "is_found"), [(0.49, False), (0.5, True)])
def test_a_face_below_32_pixels_is_refused(scale: float, is_found: bool) -> None:
    points = standing(20, 100, scale)
    side = 2 * np.hypot(*ffhq_axes(points)[1][0])
    assert side == pytest.approx(64 * scale, rel=1e-5)
    if is_found:
        assert find_people(points, times(20)).count == 1
        return
    with pytest.raises(LandmarksError, match="31 pixels; expected at least 32") as caught:
        find_people(points, times(20))
    assert caught.value.reason == "small_face"


def test_small_faces_in_the_background_are_left_out() -> None:
    points = shuffled([standing(50, 100), standing(50, 300, scale=0.3)])
    found = find_people(points, times(50))
    assert found.count == 1
    assert np.array_equal(found.chosen("longest")[0], standing(50, 100))


@pytest.mark.parametrize("shape", [(20, 5, 2), (19, 68, 2), (20, 1, 1, 68, 2), (20,)])
def test_landmarks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LandmarksError, match="expected"):
        find_people(np.zeros(shape, np.float32), times(20))
