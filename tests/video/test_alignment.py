"""The FFHQ crop against its formula, and smoothing: no lag, right at the ends, the same at any rate."""

from __future__ import annotations

import numpy as np
import pytest

from svgan_ray.errors import ConfigError
from svgan_ray.video.alignment import CropParameters, ffhq_axes, quads_of, smooth, smooth_track

PARAMETERS = CropParameters()
RATES = [24.0, 25.0, 30000 / 1001, 60.0]


def landmarks(left_eye: tuple, right_eye: tuple, left_mouth: tuple, right_mouth: tuple) -> np.ndarray:
    """One face [1, 68, 2] whose eyelid contours surround their centres; all other points are far away."""
    turn = np.arange(6) * np.pi / 3
    ring = 3 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points = np.full((68, 2), 1e4)
    points[36:42], points[42:48] = left_eye + ring, right_eye + ring
    points[48], points[54] = left_mouth, right_mouth
    return points[None].astype(np.float32)


def test_upright_face_gives_the_quad_of_the_formula() -> None:
    centre, x, y = ffhq_axes(landmarks((40, 50), (80, 50), (48, 100), (72, 100)))
    assert centre == pytest.approx(np.array([[60, 55]]))
    assert x == pytest.approx(np.array([[90, 0]]))  # 1.8 * 50 > 2 * 40
    assert y == pytest.approx(np.array([[0, 90]]))
    assert quads_of(centre, x, y)[0] == pytest.approx(
        np.array([[-30, -35], [-30, 145], [150, 145], [150, -35]])
    )
    assert quads_of(centre, x, y).dtype == np.float64


def test_wide_eyes_set_the_size() -> None:
    _, x, _ = ffhq_axes(landmarks((20, 50), (100, 50), (48, 90), (72, 90)))
    assert x == pytest.approx(np.array([[160, 0]]))


def test_the_quad_turns_grows_and_moves_with_the_face() -> None:
    face = landmarks((40, 50), (80, 52), (48, 100), (73, 99)).astype(np.float64)
    angle, scale, shift = 0.7, 1.6, np.array([11.0, -5.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = quads_of(*ffhq_axes(face @ turn.T + shift))
    assert moved == pytest.approx(quads_of(*ffhq_axes(face)) @ turn.T + shift)


def test_frames_without_a_face_or_with_a_collapsed_one_are_not_finite() -> None:
    face = landmarks((40, 50), (80, 50), (48, 100), (72, 100))
    points = np.concatenate([face, np.full_like(face, np.nan), np.full_like(face, 7)])
    finite = [np.isfinite(part).all(axis=1) for part in ffhq_axes(points)]
    assert np.logical_and.reduce(finite).tolist() == [True, False, False]


def response(rate_hz: float, frequency_hz: float, sigma_s: float) -> complex:
    """What smoothing leaves of a sine away from the ends: gain and phase."""
    time_s = np.arange(int(10 * rate_hz)) / rate_hz
    wave = np.exp(2j * np.pi * frequency_hz * time_s)
    parts = smooth(np.stack([wave.real, wave.imag], axis=1), time_s, sigma_s)
    middle = slice(len(time_s) // 4, 3 * len(time_s) // 4)
    return complex(np.mean((parts[:, 0] + 1j * parts[:, 1])[middle] / wave[middle]))


@pytest.mark.parametrize("rate_hz", RATES)
def test_motion_stays_without_lag(rate_hz: float) -> None:
    centre = response(rate_hz, 2.0, PARAMETERS.centre_sigma_s)
    axes = response(rate_hz, 0.3, PARAMETERS.axes_sigma_s)
    assert abs(centre) >= 0.85
    assert abs(axes) >= 0.95
    assert abs(np.angle(centre)) < 1e-9
    assert abs(np.angle(axes)) < 1e-9


@pytest.mark.parametrize("rate_hz", RATES)
def test_white_jitter_falls(rate_hz: float) -> None:
    frames = int(200 * rate_hz)
    noise = np.random.default_rng(0).standard_normal((frames, 6))
    parts = smooth_track(noise[:, :2], noise[:, 2:4], noise[:, 4:], np.arange(frames) / rate_hz, PARAMETERS)
    assert noise[:, :2].std() / parts[0].std() >= 1.8
    assert noise[:, 2:4].std() / parts[1].std() >= 3
    assert noise[:, 4:].std() / parts[2].std() >= 3


@pytest.mark.parametrize("frequency_hz", [0.3, 1.0, 2.0, 4.0])
def test_sixty_frames_a_second_behave_like_twenty_five(frequency_hz: float) -> None:
    for sigma_s in (PARAMETERS.centre_sigma_s, PARAMETERS.axes_sigma_s):
        assert abs(response(60, frequency_hz, sigma_s) - response(25, frequency_hz, sigma_s)) < 0.01


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
def test_uniform_motion_is_exact_up_to_both_ends_at_any_rate(frames: int) -> None:
    time_s = np.cumsum(np.random.default_rng(frames).uniform(0.005, 0.2, frames))
    line = np.stack([3 + 40 * time_s, 5 - 7 * time_s], axis=1)
    assert smooth(line, time_s, 0.12) == pytest.approx(line, abs=1e-6)


def test_frames_are_neither_lost_nor_moved() -> None:
    time_s = np.arange(100) / 25
    step = np.where(time_s < 2, 0.0, 1.0)[:, None]
    smoothed = smooth(step, time_s, 0.12)
    assert smoothed.shape == step.shape
    assert smoothed + smoothed[::-1] == pytest.approx(np.ones((100, 1)), abs=1e-9)  # symmetric about the step


def test_a_frame_far_from_all_others_keeps_its_place() -> None:
    time_s = np.array([0.0, 0.04, 0.08, 9.0, 20.0, 20.04])
    values = np.random.default_rng(0).standard_normal((6, 2))
    assert smooth(values, time_s, 0.04)[3] == pytest.approx(values[3])


def test_no_smoothing_where_none_is_asked_for() -> None:
    values = np.random.default_rng(0).standard_normal((9, 2))
    assert np.array_equal(smooth(values, np.arange(9.0), 0), values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("centre_sigma_s", -0.1),
        ("axes_sigma_s", float("nan")),
        ("max_gap_frames", -1),
        ("min_clip_frames", 0),
    ],
)
def test_parameters_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        CropParameters(**{field: value})
