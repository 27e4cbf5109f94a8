"""Diversity, jitter and memorisation catch what they are named after."""

from __future__ import annotations

import math

import pytest
import torch

from svgan_ray.errors import DataError
from svgan_ray.metrics.features import cut_windows
from svgan_ray.metrics.scores import (
    diversity,
    fast_power_share,
    mean_pairwise_distance,
    memorisation,
    noise_angle,
)

RATE_HZ = 25.0


def windows_of(clips):
    return cut_windows(list(clips), 50).data


def test_pairwise_distance_of_two_windows_is_theirs():
    pair = torch.stack([torch.zeros(3, 2), torch.ones(3, 2)])
    assert mean_pairwise_distance(pair) == pytest.approx(math.sqrt(6))
    assert math.isnan(mean_pairwise_distance(pair[:1]))


def test_diversity_is_one_for_the_same_person_and_falls_with_collapse(footage, samples):
    real, same = windows_of(footage(5, seed=1)), windows_of(samples(40, 10.0, seed=5))
    assert diversity(real, same) == pytest.approx(1, abs=0.1)
    assert diversity(real, 0.5 * same) == pytest.approx(0.5, abs=0.06)
    assert diversity(real, same[:1].repeat(50, 1, 1)) == 0


def test_jitter_is_the_share_of_fast_power(footage):
    real = footage(2, seed=1)
    share = fast_power_share(real, RATE_HZ)
    assert fast_power_share([3 * clip + 1 for clip in real], RATE_HZ) == pytest.approx(share, rel=1e-3)
    trembling = [
        clip + 0.2 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(1)) for clip in real
    ]
    assert fast_power_share(trembling, RATE_HZ) > 2 * share
    white = [torch.randn(20_000, 2, generator=torch.Generator().manual_seed(2))]
    assert fast_power_share(white, RATE_HZ) == pytest.approx(6.5 / 12.5, abs=0.03)
    assert math.isnan(fast_power_share(real, 12.0)), "half the rate is the fastest that it shows"


def test_jitter_can_be_weighted_by_the_components_variance():
    slow = torch.sin(2 * math.pi * torch.arange(2000) / RATE_HZ)
    fast = torch.sin(2 * math.pi * 8 * torch.arange(2000) / RATE_HZ)
    clip = [torch.stack([slow, fast], 1)]
    assert fast_power_share(clip, RATE_HZ) == pytest.approx(0.5, abs=0.01)
    assert fast_power_share(clip, RATE_HZ, torch.tensor([9.0, 1.0])) == pytest.approx(0.1, abs=0.01)


def test_angle_says_which_noise_moves_the_end():
    noise = torch.randn(200, 5, 4, dtype=torch.float64, requires_grad=True)

    def mean_angle(first: float, later: float) -> float:
        change = first * noise[:, 0] + later * noise[:, 1:].sum(1)
        return float(noise_angle(noise, change).mean())

    assert mean_angle(1.0, 0.0) == 0 and mean_angle(0.0, 1.0) == pytest.approx(math.pi / 2)
    assert mean_angle(2.0, 1.0) == pytest.approx(math.pi / 4), "four later vectors of half the strength"
    assert float(noise_angle(noise, 0 * noise[:, 0]).sum()) == 0, "what does not move at all"


@pytest.fixture(scope="module")
def seen(footage):
    return footage(10, seed=1), footage(5, seed=2)


def test_new_motion_of_the_same_person_is_no_copy(seen, samples):
    result = memorisation(*seen, windows_of(samples(80, 30.0, seed=5)))
    assert result.generated_windows >= 1000
    assert min(result.p_value, result.copied_p_value) > 0.05
    assert result.copied_share < 0.05 and result.verdict == "no sign of copying"


@pytest.mark.parametrize("offset_frames", [0, 1, 7])
def test_a_replay_of_training_footage_is_caught(seen, offset_frames):
    replay = torch.cat([clip[offset_frames:] for clip in seen[0]])
    noise = 0.05 * torch.randn(replay.shape, generator=torch.Generator().manual_seed(3))
    result = memorisation(*seen, (replay + noise).unfold(0, 50, 10).transpose(1, 2))
    assert result.p_value < 1e-6 and result.copied_p_value < 1e-6
    assert result.copied_share > 0.9 and result.verdict.endswith("copied")


@pytest.mark.parametrize("amplitude", [0.8, 0.95])
def test_less_motion_is_no_copy_and_less_motion_of_the_footage_is_one(seen, samples, amplitude):
    new = amplitude * windows_of(samples(80, 30.0, seed=5))
    result = memorisation(*seen, new)
    assert result.copied_p_value > 0.05 > result.p_value, "it lies near to everything, and was never seen"
    assert result.verdict.endswith("too little motion, not copied")
    replay = torch.cat([clip.unfold(0, 50, 10).transpose(1, 2) for clip in seen[0]])
    assert memorisation(*seen, amplitude * replay).copied_p_value < 1e-6


def test_footage_that_was_held_out_is_no_copy(seen):
    replay = torch.cat([clip.unfold(0, 50, 5).transpose(1, 2) for clip in seen[1]])
    assert memorisation(*seen, replay).copied_p_value > 0.05


def test_a_replay_of_a_tenth_is_caught(seen, samples):
    new = windows_of(samples(80, 30.0, seed=5))
    replayed = windows_of(seen[0])[: len(new) // 10]
    result = memorisation(*seen, torch.cat([new[len(replayed) :], replayed]))
    assert result.copied_share > 0.08


def test_few_windows_are_said_to_be_few(seen, samples):
    assert memorisation(*seen, windows_of(samples(4, 10.0, seed=5))).verdict.startswith("not fit")
    with pytest.raises(DataError, match="50 to 500 frames; got 7404 training windows, blocks held out: 0"):
        memorisation(seen[0], [clip[:20] for clip in seen[1]], torch.zeros(5, 50, 16))
    with pytest.raises(DataError, match="held out: 1"):
        memorisation(seen[0], [seen[1][0][:500]], torch.zeros(5, 50, 16))
