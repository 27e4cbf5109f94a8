"""The Frechet distance against closed forms, and motion against itself and its controls."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.latents.basis import fit_basis
from svgan_ray.metrics.controls import negative_controls
from svgan_ray.metrics.features import (
    blocks_of,
    cut_windows,
    evaluation_basis,
    power_spectrum,
    window_features,
)
from svgan_ray.metrics.frechet import frechet_distance, frechet_motion, gaussian_distance

RATE_HZ = 25.0
CONTROLS = {"constant", "frozen frame", "half amplitude", "shuffled in time", "double speed"}

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 6)


def gaussian(seed: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, size + 2, generator=generator, dtype=torch.float64)
    return torch.randn(size, generator=generator, dtype=torch.float64), factor @ factor.T


@settings(max_examples=40, deadline=None)
@given(seed=seeds, variances=st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=6))
def test_commuting_covariances_have_a_closed_form(seed, variances):
    """sum (sqrt(lambda_a) - sqrt(lambda_b))^2, in any rotation."""
    a, b = torch.tensor(variances, dtype=torch.float64).T
    mean, rotation = gaussian(seed, len(a))[0], torch.linalg.qr(gaussian(seed, len(a))[1]).Q
    covariances = [rotation @ values.diag() @ rotation.T for values in (a, b)]
    distance = gaussian_distance(mean, covariances[0], torch.zeros_like(mean), covariances[1])
    expected = mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    # 1e-6: the root of an eigenvalue that rounding made 1e-15 instead of 0 is 3e-8
    assert float(distance) == pytest.approx(float(expected), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=sizes)
def test_equals_the_trace_of_the_matrix_square_root(seed, size):
    (mean_a, a), (mean_b, b) = gaussian(seed, size), gaussian(seed + 1, size)
    eigenvalues = torch.linalg.eigvals(a @ b)  # not symmetric, but similar to a matrix that is
    expected = (mean_a - mean_b).square().sum() + a.trace() + b.trace() - 2 * eigenvalues.real.sqrt().sum()
    distance = gaussian_distance(mean_a, a, mean_b, b)
    assert float(distance) == pytest.approx(float(expected), rel=1e-6, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=sizes, shift=st.floats(-5, 5), scale=st.floats(0.1, 5))
def test_a_metric_of_point_sets(seed, size, shift, scale):
    """Zero to itself, symmetric, blind to rotations and joint shifts, quadratic in scale."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, size, generator=generator, dtype=torch.float64) for n in (40, 60))
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    distance = frechet_distance(a, b)
    close = {"rel": 1e-6, "abs": 1e-6}
    assert float(frechet_distance(a, a)) == pytest.approx(0, abs=1e-6)
    assert float(frechet_distance(b, a)) == pytest.approx(float(distance), **close)
    assert float(frechet_distance(a @ rotation + shift, b @ rotation + shift)) == pytest.approx(
        float(distance), **close
    )
    assert float(frechet_distance(scale * a, scale * b)) == pytest.approx(scale**2 * float(distance), **close)
    assert float(frechet_distance(a, a + shift)) == pytest.approx(size * shift**2, **close)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, scale=st.floats(0.5, 2), shift=st.floats(-3, 3))
def test_features_of_a_window(seed, scale, shift):
    """Playing backwards changes none; a shift only the means; a scale shifts every logarithm by its own."""
    windows = 100 * torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    features = window_features(windows, RATE_HZ)
    assert features.shape == (3, 2 * 10)
    torch.testing.assert_close(window_features(windows.flip(1), RATE_HZ)[:, :12], features[:, :12])
    shifted = window_features(windows + shift, RATE_HZ)
    torch.testing.assert_close(shifted[:, :2], features[:, :2] + shift)
    torch.testing.assert_close(shifted[:, 2:], features[:, 2:])
    scaled = window_features(scale * windows, RATE_HZ)
    torch.testing.assert_close(scaled[:, 2:], features[:, 2:] + math.log(scale), atol=0.02, rtol=0)


def test_the_spectrum_finds_a_wave():
    time_s = torch.arange(100) / RATE_HZ
    wave = torch.sin(2 * math.pi * 5 * time_s)[None, :, None] + 7
    power, frequency_hz = power_spectrum(wave, RATE_HZ)
    assert float(frequency_hz[power[0, :, 0].argmax()]) == pytest.approx(5)
    assert float(power[0, 0]) < 1e-4 * float(power.max()), "the mean is no motion"


def test_windows_never_cross_blocks():
    clips = [torch.arange(1000.0)[:, None], 5000 + torch.arange(333.0)[:, None], torch.zeros(10, 1)]
    blocks = blocks_of(clips, 25)
    assert [len(block) for block in blocks] == [250] * 4 + [250, 83]
    windows = cut_windows(blocks, 25)
    assert bool((windows.data.diff(dim=1) == 1).all())
    for number, block in enumerate(blocks):
        values = windows.data[windows.block == number]
        assert values.min() >= block.min() and values.max() <= block.max()
    double = cut_windows(blocks, 25, speed=2)
    assert bool((double.data.diff(dim=1) == 2).all())


def test_controls_are_what_they_are_called(footage):
    blocks = blocks_of(footage(1, seed=1), 50)
    real, spoilt = cut_windows(blocks, 50).data, negative_controls(blocks, 50)
    assert set(spoilt) == CONTROLS
    assert bool((spoilt["constant"].data == real.mean((0, 1))).all())
    assert bool((spoilt["frozen frame"].data.diff(dim=1) == 0).all())
    torch.testing.assert_close(spoilt["half amplitude"].data.mean((0, 1)), real.mean((0, 1)))
    torch.testing.assert_close(spoilt["half amplitude"].data.diff(dim=1), real.diff(dim=1) / 2)
    shuffled = spoilt["shuffled in time"].data
    torch.testing.assert_close(shuffled.sort(1).values.sum(1), real.sort(1).values.sum(1))
    assert float(shuffled.diff(dim=1).abs().mean()) > 2 * float(real.diff(dim=1).abs().mean())


@pytest.mark.parametrize("window_s", [2.0, 5.0])
def test_the_same_person_scores_near_the_floor_and_every_control_far_above(footage, samples, window_s):
    same = cut_windows(list(samples(40, 30.0, seed=5)), round(window_s * RATE_HZ)).data
    motion = frechet_motion(footage(10, seed=1), {"same": same}, RATE_HZ, window_s)
    assert motion.verdict == "fit"
    assert motion.features == motion.windows // 10 and motion.windows >= 100
    assert set(motion.controls) == CONTROLS and min(motion.controls.values()) >= 5
    assert motion.compared["same"] < 2 < motion.controls["half amplitude"] / 5


def test_subtler_faults_stand_out(footage, samples):
    faults = {
        "same": samples(40, 30.0, seed=5),
        "no blinks": samples(40, 30.0, seed=5, blinks_hz=0.0),
        "a fifth smaller": 0.8 * samples(40, 30.0, seed=5),
        "trembling": (still := samples(40, 30.0, seed=5))
        + 0.1 * torch.randn(still.shape, generator=torch.Generator().manual_seed(1)),
    }
    windows = {name: cut_windows(list(clips), 50).data for name, clips in faults.items()}
    scores = frechet_motion(footage(10, seed=1), windows, RATE_HZ, 2.0).compared
    assert all(scores[name] > 2 * scores["same"] for name in faults if name != "same"), scores


def test_too_little_footage_is_said_not_to_fit(footage, samples):
    same = cut_windows(list(samples(40, 10.0, seed=5)), 50).data
    minute = frechet_motion(footage(1, seed=1), {"same": same}, RATE_HZ, 2.0)
    assert minute.verdict.startswith("not fit") and f"{minute.windows} windows" in minute.verdict
    assert 0 < minute.features == minute.windows // 10 and math.isfinite(minute.compared["same"])
    nothing = frechet_motion(footage(0.2, seed=1), {"same": same}, RATE_HZ, 5.0)
    assert nothing.verdict.startswith("not fit") and math.isnan(nothing.floor)
    assert math.isnan(nothing.compared["same"]) and set(nothing.controls) == CONTROLS


def test_a_control_that_does_not_differ_is_named(samples):
    """Footage of white noise: shuffling it or playing it faster changes nothing."""
    noise = [torch.randn(3000, 16, generator=torch.Generator().manual_seed(part)) for part in range(5)]
    verdict = frechet_motion(noise, {}, RATE_HZ, 2.0).verdict
    assert verdict.startswith("not fit") and "shuffled in time" in verdict and "frozen" not in verdict


def test_the_evaluation_basis_is_shared_by_recipes_of_any_size():
    w_plus = torch.randn(400, 4, 10, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 9, 10)
    small, large = (evaluation_basis(fit_basis([w_plus], k)) for k in (20, 30))
    assert small.size == 16
    torch.testing.assert_close(small.project(w_plus), large.project(w_plus))
