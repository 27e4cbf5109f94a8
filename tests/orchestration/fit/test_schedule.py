"""Which frames a fit sees: all equally often, whoever computes them, from wherever it goes on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svgan_ray.orchestration.fit.schedule import Schedule, stretches

COUNTS = st.lists(st.integers(16, 60), min_size=1, max_size=3)


@given(COUNTS, st.integers(3, 16))
def test_stretches_hold_every_frame_once_and_are_equally_long(counts: list[int], places: int) -> None:
    spans = stretches(counts, places)
    frames = sorted(frame for first, stop in spans for frame in range(first, stop))
    assert frames == list(range(sum(counts)))
    for subject in range(len(counts)):
        lengths = [stop - first for first, stop in spans[subject :: len(counts)]]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("portions", [1, 3])
def test_every_frame_comes_once_before_any_comes_again(portions: int) -> None:
    schedule = Schedule(stretches([48], 4), portions)
    left_out = np.zeros(48, np.bool_)
    seen = [[schedule.frame(place, step, left_out) for place in range(4)] for step in range(24)]
    first, second = np.ravel(seen[:12]).tolist(), np.ravel(seen[12:]).tolist()
    assert Counter(first) == Counter(second) == Counter(range(48))
    assert first != second  # in another order
    for step, frames in enumerate(seen):
        portion = schedule.portion_at(step)
        assert {schedule.portion_of(place, frame) for place, frame in enumerate(frames)} == {portion}
    assert [schedule.portion_at(step) for step in range(12)] == sorted(
        portions * step // 12 for step in range(12)
    )


def test_frames_that_are_left_out_do_not_come() -> None:
    schedule = Schedule(stretches([20, 20], 4), 2, seed=3)
    left_out = np.zeros(40, np.bool_)
    left_out[[0, 1, 25]] = True
    seen = {schedule.frame(place, step, left_out) for step in range(60) for place in range(4)}
    assert seen == set(range(40)) - {0, 1, 25}


def test_subjects_take_turns() -> None:
    schedule = Schedule(stretches([16, 400], 8))
    nobody = np.zeros(416, np.bool_)
    frames = [schedule.frame(place, step, nobody) for step in range(40) for place in range(8)]
    assert sum(frame < 16 for frame in frames) == len(frames) / 2
