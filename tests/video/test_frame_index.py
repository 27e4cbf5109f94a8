"""Times that cannot be right are mended where the order of the pictures is certain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svgan_ray.video.frame_index import FrameIndex, PacketTable, index_by_number, index_by_stamp


def table(stamps: list[int | None], keyframes: list[int] | None = None) -> PacketTable:
    keys = keyframes or [0]
    return PacketTable(
        stamps,
        stamps,
        list(range(len(stamps))),
        [n in keys for n in range(len(stamps))],
        [True] * len(stamps),
    )


def mended(
    stamps: list[int | None], is_broadcast: bool = False, keyframes: list[int] | None = None
) -> FrameIndex:
    """Stamps in hundredths of a second, in the order of the pictures, at 25 frames a second."""
    packets = table(stamps, keyframes)
    return index_by_number(range(len(stamps)), packets, 0.01, 0.04, is_broadcast)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30, unique=True))
def test_sound_stamps_are_the_index(stamps: list[int]) -> None:
    index = index_by_stamp(table(list(stamps)), 0.01)
    assert index is not None and not index.is_numbered and index.mends == {}
    assert index.keys.tolist() == sorted(stamps)
    assert index.time_s == pytest.approx((np.sort(stamps) - min(stamps)) * 0.01)


@pytest.mark.parametrize("stamps", [[0, 4, 4, 8], [0, None, 8]])
def test_doubled_or_absent_stamps_are_no_index(stamps: list[int | None]) -> None:
    assert index_by_stamp(table(stamps), 0.01) is None


def test_a_file_that_begins_within_a_group_has_no_index_by_stamp() -> None:
    assert index_by_stamp(table([0, 4, 8], keyframes=[1]), 0.01) is None


@pytest.mark.parametrize(
    ("stamps", "hundredths", "mends"),
    [
        ([0, 4, 4, 12, 16], [0, 4, 8, 12, 16], {"doubled": 1}),
        ([0, 4, 8, 8, 8, 20], [0, 4, 8, 12, 16, 20], {"doubled": 2}),
        ([10, None, 18, None], [0, 4, 8, 12], {"absent": 2}),
        ([None, None, None], [0, 4, 8], {"absent": 3}),
        ([12, 24, 16, 20, 28], [0, 4, 8, 12, 16], {"reordered": 3}),
        ([500, 504, 508, 0, 4, 8], [0, 4, 8, 12, 16, 20], {"restarted": 1}),
        ([0, 4, 8, 5000, 5004], [0, 4, 8, 5000, 5004], {}),
    ],
    ids=["doubled", "tripled", "absent", "none", "reordered", "set back", "a long pause"],
)
def test_times_are_mended(stamps: list[int | None], hundredths: list[int], mends: dict[str, int]) -> None:
    index = mended(stamps)
    assert index.is_numbered and index.keys.tolist() == list(range(len(stamps)))
    assert index.time_s == pytest.approx(np.array(hundredths) / 100)
    assert index.mends == mends


def test_the_clock_of_a_broadcast_may_leap_and_is_set_at_keyframes() -> None:
    leapt = mended([0, 4, 8, 5000, 5004], is_broadcast=True)
    assert leapt.time_s == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    joined = mended([0, 4, 8, 4, 8, 12], is_broadcast=True, keyframes=[0, 3])
    assert joined.time_s == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.20])
    assert joined.mends == leapt.mends == {"restarted": 1}


@given(
    st.lists(st.none() | st.integers(-500, 5000), min_size=1, max_size=40),
    st.booleans(),
    st.sets(st.integers(0, 39)),
)
def test_mended_times_increase_from_zero(
    stamps: list[int | None], is_broadcast: bool, keyframes: set[int]
) -> None:
    time_s = mended(stamps, is_broadcast, sorted({0, *keyframes})).time_s
    assert len(time_s) == len(stamps) and time_s[0] == 0
    assert np.all(np.diff(time_s) > 0)
