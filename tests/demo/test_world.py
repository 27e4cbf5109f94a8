"""The procedural world: pictures that follow their factors, behaviour with the stated statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from svgan_ray.demo.behaviour import CLOSED_LID, CLOSED_MOUTH, OPEN_LID, Temperament, behave, subject
from svgan_ray.demo.factors import FACTORS, GROUPS, INDEX, MOVING, NUM_FACTORS, SCORED, draw_factors
from svgan_ray.demo.renderer import aligned_quads, landmarks, region_masks, render

AVERAGE = torch.zeros(1, NUM_FACTORS)


def portrait(**factors: float) -> Tensor:
    values = AVERAGE.clone()
    for name, value in factors.items():
        values[0, INDEX[name]] = value
    return values


def test_there_are_at_least_thirty_named_factors_in_five_groups() -> None:
    assert NUM_FACTORS >= 30
    assert set(GROUPS) == {"identity", "pose", "expression", "light", "background"}
    assert len(set(FACTORS)) == NUM_FACTORS


@pytest.mark.parametrize("name", [name for name in FACTORS if name not in ("shift_x", "shift_y", "scale")])
def test_every_factor_changes_the_aligned_picture(name: str) -> None:
    low, high = (render(portrait(**{name: value}), 64) for value in (-1.5, 1.5))
    assert (low - high).abs().amax() > 0.04


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_picture_is_smooth_in_its_factors(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    factors = draw_factors(1, draws)
    step = 1e-3 * torch.randn(factors.shape, generator=draws)
    change = (render(factors + step, 64) - render(factors, 64)).abs()
    assert change.amax() < 0.2  # no edge jumps by more than an edge's slope allows
    assert torch.isfinite(change).all()


def test_small_features_change_only_their_region() -> None:
    eyes, mouth = region_masks(AVERAGE, 128)
    for name in SCORED:
        change = (render(portrait(**{name: -2.0}), 128) - render(AVERAGE, 128)).abs().sum(dim=1, keepdim=True)
        region = mouth if name == "mouth_opening" else eyes
        inside = (change * region).sum() / change.sum()
        assert inside > (0.5 if name == "mouth_opening" else 0.9), name  # the chin follows the mouth


def test_alignment_removes_roll_shift_and_scale_of_the_face() -> None:
    moved = portrait(roll=1.2, shift_x=-1.0, shift_y=0.8, scale=1.0)
    difference = (render(moved, 96) - render(AVERAGE, 96)).abs().mean(dim=1)[0]
    assert difference[24:72, 32:64].mean() < 0.02


def test_landmarks_are_where_the_picture_shows_them() -> None:
    points = landmarks(portrait(yaw=1.0, roll=-0.7, shift_x=1.0))
    assert points.shape == (1, 68, 2)
    quad = aligned_quads(portrait(yaw=1.0, roll=-0.7, shift_x=1.0))
    sides = (quad - quad.roll(1, dims=1)).norm(dim=2)
    assert torch.allclose(sides, sides[:, :1].expand_as(sides), rtol=1e-4)  # a square
    left, right = points[0, 36:42].mean(dim=0), points[0, 42:48].mean(dim=0)
    assert left[0] < right[0]


def test_wrong_factors_are_refused() -> None:
    with pytest.raises(ValueError, match=f"expected \\[N, {NUM_FACTORS}\\]"):
        render(torch.zeros(2, 3), 32)


def test_identity_holds_still_and_only_moving_factors_move() -> None:
    factors = behave(subject(4), 500)
    still = [i for i, name in enumerate(FACTORS) if name not in MOVING]
    assert (factors[:, still].std(dim=0) == 0).all()
    assert (factors[:, [INDEX[name] for name in MOVING]].std(dim=0) > 0.05).all()


def test_the_same_seed_gives_the_same_behaviour_and_another_another() -> None:
    person = subject(7)
    assert torch.equal(behave(person, 200, seed=1), behave(person, 200, seed=1))
    assert not torch.equal(behave(person, 200, seed=1), behave(person, 200, seed=2))
    assert not torch.equal(subject(7).rest, subject(8).rest)
    assert subject(7).temperament == Temperament() != subject(7, own_temperament=True).temperament


def test_blinks_are_short_and_as_frequent_as_stated() -> None:
    rate_hz, seconds = 100.0, 600
    lids = behave(subject(1), int(seconds * rate_hz), rate_hz)[:, INDEX["eyelid_left"]]
    shut = (lids < (CLOSED_LID + OPEN_LID) / 2).numpy()
    starts, stops = (np.flatnonzero(np.diff(shut.astype(int)) == sign) for sign in (1, -1))
    lengths_s = (stops[: len(starts)] - starts[: len(stops)]) / rate_hz
    assert 0.25 < len(starts) / seconds < 0.45  # 0.35 a second
    assert np.quantile(lengths_s, 0.05) > 0.08 and np.quantile(lengths_s, 0.95) < 0.22


def test_lids_close_faster_than_they_open() -> None:
    rate_hz = 100.0
    lids = behave(subject(1), 60_000, rate_hz)[:, INDEX["eyelid_left"]]
    speed_per_s = rate_hz * lids.diff()
    closing, opening = -speed_per_s.quantile(0.001), speed_per_s.quantile(0.999)
    assert closing > 1.8 * opening


def test_a_person_talks_in_turns_of_seconds_and_rests_between_them() -> None:
    mouth = behave(subject(2), 30_000)[:, INDEX["mouth_opening"]].numpy()
    talks = (
        np.convolve(mouth > CLOSED_MOUTH + 0.3, np.ones(51), "same") > 0
    )  # pauses within a turn are filled
    lengths_s = np.diff(np.flatnonzero(np.diff(talks.astype(int)))) / 25
    assert 4 < np.median(lengths_s) < 20 and lengths_s.max() > 20
    assert 0.55 < talks.mean() < 0.9


def test_the_gaze_leads_the_head_and_speech_moves_it() -> None:
    factors = behave(subject(3), 30_000)

    def agreement(first: str, second: str, later_frames: int) -> float:
        a, b = factors[:, INDEX[first]].numpy(), factors[:, INDEX[second]].numpy()
        return float(np.corrcoef(a[: len(a) - later_frames], b[later_frames:])[0, 1])

    assert agreement("gaze_x", "yaw", 12) > max(0.35, agreement("yaw", "gaze_x", 12) + 0.1)
    assert agreement("gaze_y", "pitch", 12) > 0.2
    assert agreement("mouth_opening", "pitch", 2) > 0.1 > abs(agreement("mouth_opening", "roll", 2))


def test_head_motion_is_band_limited_and_speech_is_at_syllable_rate() -> None:
    factors = behave(subject(2), 15_000)
    frequency_hz = np.fft.rfftfreq(15_000, 1 / 25.0)

    def power(name: str) -> np.ndarray:
        course = factors[:, INDEX[name]].numpy()
        return np.abs(np.fft.rfft(course - course.mean())) ** 2

    assert power("yaw")[frequency_hz > 0.6].sum() < 0.02 * power("yaw").sum()
    mouth = power("mouth_opening")
    syllables = (frequency_hz > 2.5) & (frequency_hz < 6)
    assert mouth[syllables].sum() > 0.4 * mouth[frequency_hz > 0.6].sum()


def test_the_process_is_stationary() -> None:
    factors = behave(subject(3), 30_000)
    halves = factors[:15_000], factors[15_000:]
    for name in ("mouth_opening", "eyelid_left", "gaze_x"):
        first, second = (half[:, INDEX[name]].std() for half in halves)
        assert abs(first / second - 1) < 0.25, name
