"""What is held out, what lies between, and what stands out."""

from __future__ import annotations

import numpy as np
import pytest

from svgan_ray.errors import DataError
from svgan_ray.stylegan.fitting.split import held_out_split, outliers, require_enough


def test_one_block_of_five_is_held_out_with_a_second_on_each_side() -> None:
    time_s = np.arange(0, 200, 1 / 24)
    split = held_out_split(time_s, 200.0)
    inside = (time_s % 50 >= 20) & (time_s % 50 < 30)
    near = (time_s % 50 >= 19) & (time_s % 50 < 31)
    assert (split.held_out == inside).all()
    assert (split.training == ~near).all()
    apart = time_s[split.training][:, None] - time_s[split.held_out][None]
    assert np.abs(apart).min() >= 1 - 1e-9


def test_a_clip_is_split_as_its_video_is() -> None:
    time_s = np.arange(0, 120, 1 / 25)
    whole, part = held_out_split(time_s, 120.0), held_out_split(time_s[700:1900], 120.0)
    assert (part.held_out == whole.held_out[700:1900]).all()
    assert (part.training == whole.training[700:1900]).all()


def test_short_footage_holds_out_a_fifth_of_itself() -> None:
    time_s = np.arange(0, 30, 1 / 25)
    split = held_out_split(time_s, 30.0)
    assert time_s[split.held_out].min() == pytest.approx(12)
    assert time_s[split.held_out].max() < 18
    assert split.training.mean() == pytest.approx(1 - 8 / 30, abs=0.01)


def test_what_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="a single instant"):
        held_out_split(np.zeros(3))
    with pytest.raises(DataError, match=r"'anna': 7\d usable frames, expected 200 or more"):
        require_enough(held_out_split(np.arange(100) / 10), "anna")
    start = held_out_split(np.arange(450) / 25, 200.0)  # a clip that ends before the first block held out
    with pytest.raises(DataError, match="'anna': no frame of it is held out"):
        require_enough(start, "anna")


def test_outliers_are_of_their_own_subject() -> None:
    draws = np.random.default_rng(0)
    error = np.concatenate([draws.normal(0.02, 0.001, 400), draws.normal(0.06, 0.003, 400)])
    error[[5, 700]] = 0.05, 0.12
    subject = np.repeat([0, 1], 400)
    found = np.flatnonzero(outliers(error, subject))
    assert {5, 700} <= set(found) and len(found) < 8
    assert 5 not in np.flatnonzero(outliers(error))
