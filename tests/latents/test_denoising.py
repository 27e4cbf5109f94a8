"""Motion and white noise on top of it, told apart by their spectra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from svgan_ray.latents.denoising import denoised

RATE_HZ = 25.0


def slow_motion(frames: int, seed: int) -> Tensor:
    """Motion [T, 3] of unit variance without power above 3 Hz, and a mean that is not zero."""
    random = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft(torch.randn(frames, 3, generator=random), dim=0)
    spectrum[torch.fft.rfftfreq(frames, 1 / RATE_HZ) > 3] = 0
    motion = torch.fft.irfft(spectrum, frames, dim=0)
    return motion / motion.std(0) + torch.tensor([5.0, 0.0, -2.0])


def noise(frames: int, amplitude: float, seed: int) -> Tensor:
    return amplitude * torch.randn(frames, 3, generator=torch.Generator().manual_seed(1000 + seed))


def test_most_of_white_noise_goes_and_motion_stays() -> None:
    motion = [slow_motion(frames, seed) for seed, frames in enumerate((900, 1500, 40))]
    noisy = [m + noise(len(m), 0.3, seed) for seed, m in enumerate(motion)]

    clean = denoised(noisy, RATE_HZ)

    for m, n, c in zip(motion, noisy, clean, strict=True):
        assert c.shape == m.shape
        inside = slice(10, -10)
        # What kept the signal's 3 of 12.5 Hz and nothing else would leave a quarter of the noise's power.
        assert (c - m)[inside].square().mean() < 0.4 * (n - m)[inside].square().mean()
    kept = torch.cat(clean).var(0) / torch.cat(motion).var(0)
    assert ((kept > 0.93) & (kept < 1.05)).all()


def test_motion_without_noise_passes_unchanged() -> None:
    motion = [slow_motion(1500, seed=5)]

    (same,) = denoised(motion, RATE_HZ)

    torch.testing.assert_close(same[50:-50], motion[0][50:-50], atol=5e-3, rtol=0)


def test_nothing_moves_in_time_and_the_mean_stays() -> None:
    """Time turned round comes out turned round: the filter favours neither what was nor what will be."""
    motion = [slow_motion(frames, seed) + noise(frames, 0.3, seed) for seed, frames in enumerate((751, 60))]
    still = torch.full((200, 3), 7.0)

    *forward, same = denoised([*motion, still], RATE_HZ)
    backward = denoised([*(m.flip(0) for m in motion), still], RATE_HZ)

    for one, other in zip(forward, backward, strict=False):
        torch.testing.assert_close(one, other.flip(0), atol=2e-2, rtol=0)
    torch.testing.assert_close(same, still, atol=1e-5, rtol=0)


def test_every_dimension_has_noise_of_its_own() -> None:
    motion = slow_motion(3000, seed=7)
    noisy = motion + noise(3000, 0.5, seed=7) * torch.tensor([1.0, 0.0, 1.0])

    (clean,) = denoised([noisy], RATE_HZ)

    change = (clean - noisy).square().mean(0)
    assert change[1] < 1e-4
    assert change[0] > 0.1
    assert change[2] > 0.1


@pytest.mark.parametrize(("rate_hz", "lengths"), [(20.0, [400]), (25.0, [49, 30])])
def test_where_noise_cannot_be_told_nothing_is_changed(rate_hz: float, lengths: list[int]) -> None:
    spans = [noise(frames, 1.0, seed=frames) for frames in lengths]

    for span, same in zip(spans, denoised(spans, rate_hz), strict=True):
        assert torch.equal(span, same)
