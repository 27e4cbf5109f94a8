"""Windows never leave a valid span, and are functions of (seed, step)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from svgan_ray.errors import DataError
from svgan_ray.latents.windows import WindowIndex, gather, valid_segments, window_starts

MASKS = st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=5)


@given(MASKS, st.integers(1, 6))
def test_windows_are_all_and_only_the_valid_ones(masks: list[list[bool]], window: int) -> None:
    clip_of_frame = [clip for clip, mask in enumerate(masks) for _ in mask]
    valid = [frame for mask in masks for frame in mask]
    expected = [
        start
        for start in range(len(valid) - window + 1)
        if all(valid[start : start + window]) and len(set(clip_of_frame[start : start + window])) == 1
    ]
    segments = valid_segments(torch.tensor(mask) for mask in masks)
    if expected:
        assert sorted(window_starts(segments, window).tolist()) == expected
    else:
        with pytest.raises(DataError, match=f"window of {window} frames"):
            window_starts(segments, window)


def test_draws_depend_on_seed_and_step_alone_and_cover_everything() -> None:
    index = WindowIndex([(0, 30), (40, 60)], 8)
    assert len(index) == 23 + 13
    assert torch.equal(index.draw(3, 7, 16), index.draw(3, 7, 16))
    assert not torch.equal(index.draw(3, 7, 16), index.draw(3, 8, 16))
    assert not torch.equal(index.draw(3, 7, 16), index.draw(4, 7, 16))
    assert set(torch.cat([index.draw(0, step, 16) for step in range(50)]).tolist()) == set(
        index.starts.tolist()
    )


def test_gather_takes_consecutive_frames() -> None:
    coefficients = torch.arange(20.0)[:, None] * torch.tensor([1.0, 10.0])
    windows = gather(coefficients, torch.tensor([4, 0]), 3)
    assert windows[..., 0].tolist() == [[4, 5, 6], [0, 1, 2]]
    assert windows[..., 1].tolist() == [[40, 50, 60], [0, 10, 20]]
