"""Clips and their resampling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from svgan_ray.errors import ConfigError, DataError
from svgan_ray.latents.clips import MAX_GAP_S, ClipLatents, resample


def clip_of(w_plus: Tensor, time_s: Tensor, interpolated: Tensor | None = None) -> ClipLatents:
    frames = len(w_plus)
    return ClipLatents(
        "clip",
        "anna",
        w_plus,
        time_s.double(),
        torch.zeros(frames, 4, 2),
        torch.full((frames,), float("nan")),
        torch.zeros(frames, dtype=torch.bool) if interpolated is None else interpolated,
    )


def ramp(time_s: Tensor) -> Tensor:
    """W+ that grows linearly in time: [T, 2, 3]."""
    return (time_s[:, None, None] * torch.arange(1.0, 7.0).reshape(2, 3)).float()


@pytest.mark.parametrize("rate_hz", [24000 / 1001, 24.0, 25.0, 29.97, 30000 / 1001, 50.0, 59.94, 60.0])
def test_the_own_frame_rate_changes_no_bit(rate_hz: float) -> None:
    time_s = 3.7 + torch.arange(500, dtype=torch.float64) / rate_hz
    w_plus = torch.randn(500, 2, 3)
    resampled, valid = resample(clip_of(w_plus, time_s), rate_hz)
    assert torch.equal(resampled, w_plus)
    assert valid.all()


def test_half_the_frame_rate_is_every_other_frame() -> None:
    w_plus = torch.randn(101, 2, 3)
    resampled, valid = resample(clip_of(w_plus, torch.arange(101, dtype=torch.float64) / 50), 25.0)
    assert torch.equal(resampled, w_plus[::2])
    assert valid.all()


@settings(deadline=None)
@given(
    st.lists(st.floats(0.005, MAX_GAP_S - 0.001), min_size=1, max_size=40),
    st.floats(1, 120),
    st.floats(0, 1000),
)
def test_linear_motion_stays_linear_at_any_rate(steps_s: list[float], rate_hz: float, start_s: float) -> None:
    time_s = start_s + torch.cat([torch.zeros(1), torch.tensor(steps_s)]).double().cumsum(0)
    resampled, valid = resample(clip_of(ramp(time_s - start_s), time_s), rate_hz)
    wanted_s = torch.arange(len(resampled), dtype=torch.float64) / rate_hz
    duration_s = float(time_s[-1] - time_s[0])
    torch.testing.assert_close(resampled, ramp(wanted_s), rtol=1e-4, atol=1e-4)
    assert valid.all()
    assert wanted_s[-1] <= duration_s + 1e-6 and wanted_s[-1] + 1 / rate_hz > duration_s - 1e-6


def test_a_sample_between_two_frames_is_their_blend() -> None:
    w_plus = torch.tensor([0.0, 1.0, 4.0]).reshape(3, 1, 1)
    resampled, valid = resample(clip_of(w_plus, torch.tensor([0.0, 0.1, 0.2])), 20.0)
    torch.testing.assert_close(resampled.flatten(), torch.tensor([0.0, 0.5, 1.0, 2.5, 4.0]))
    assert valid.tolist() == [True] * 5


def test_interpolated_frames_touch_only_what_is_made_of_them() -> None:
    interpolated = torch.tensor([False, False, True, False, False])
    clip = clip_of(torch.randn(5, 1, 1), torch.arange(5) / 10, interpolated)
    _, valid = resample(clip, 20.0)
    assert valid.tolist() == [True, True, True, False, False, False, True, True, True]
    assert resample(clip, 10.0)[1].tolist() == (~interpolated).tolist()


def test_nothing_is_made_up_across_a_gap() -> None:
    _, valid = resample(clip_of(torch.randn(4, 1, 1), torch.tensor([0.0, 0.1, 0.4, 0.5])), 20.0)
    assert valid.tolist() == [True, True, True, False, False, False, False, False, True, True, True]


def test_one_frame_is_one_sample() -> None:
    w_plus = torch.randn(1, 2, 3)
    resampled, valid = resample(clip_of(w_plus, torch.tensor([5.0])), 25.0)
    assert torch.equal(resampled, w_plus) and valid.tolist() == [True]


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan")])
def test_a_rate_must_be_positive(rate_hz: float) -> None:
    with pytest.raises(ConfigError, match="expected a number above 0"):
        resample(clip_of(torch.zeros(2, 1, 1), torch.arange(2)), rate_hz)


def test_clips_must_fit_together() -> None:
    with pytest.raises(DataError, match=r"w_plus is \[2, 6\], expected \[T >= 1, num_ws, w_dim\]"):
        clip_of(torch.zeros(2, 6), torch.arange(2))
    with pytest.raises(DataError, match=r"clip clip: time_s is \[3\], expected \[2\] as w_plus has 2 frames"):
        clip_of(torch.zeros(2, 1, 1), torch.arange(3))
    with pytest.raises(DataError, match="time_s does not increase"):
        clip_of(torch.zeros(2, 1, 1), torch.zeros(2))
    with pytest.raises(DataError, match="w_plus is"):
        clip_of(torch.zeros(0, 1, 1), torch.zeros(0))


def test_a_clip_knows_its_length() -> None:
    clip = clip_of(torch.zeros(26, 1, 1), 2 + torch.arange(26) / 25)
    assert clip.frames == 26
    assert clip.duration_s == pytest.approx(1.0)
