"""What training measures of the footage, and how generated motion is held against it."""

from __future__ import annotations

import pytest
import torch

from svgan_ray.latents.windows import WindowIndex, gather
from svgan_ray.temporal.statistics import Difference, MomentStatistics
from svgan_ray.temporal.workers import ALONE

FRAMES = 4000
INDEX = WindowIndex([(0, FRAMES)], 50)


def slow_motion(*shape: int, seed: int) -> torch.Tensor:
    """Unit variance, correlated over about 12 frames, [..., T, F]."""
    noise = torch.randn(*shape[:-2], shape[-2] + 40, shape[-1], generator=torch.Generator().manual_seed(seed))
    smoothed = noise.unfold(-2, 12, 1).mean(-1).unfold(-2, 12, 1).mean(-1)[..., : shape[-2], :]
    return smoothed / 0.236


def test_order_is_the_number_of_times() -> None:
    t = torch.arange(12.0)[None, :, None]
    assert torch.equal(Difference(1, order=0).apply(t), t)
    assert torch.equal(Difference(3).apply(t), torch.full((1, 9, 1), 3.0))
    assert not Difference(1, order=3).apply(t.square()).any()
    assert torch.equal(Difference(2, order=2).apply(t.square()), torch.full((1, 8, 1), 8.0))
    assert Difference(2, order=2).reach == 4


@pytest.mark.parametrize("difference", [Difference(1, 0), Difference(1), Difference(4), Difference(1, 3)])
def test_scale_is_the_footages(difference: Difference) -> None:
    footage = slow_motion(FRAMES, 3, seed=0) * torch.tensor([1.0, 2.0, 3.0])
    expected = difference.apply(footage[None])[0].std(0) if difference.order else torch.ones(3)
    torch.testing.assert_close(difference.scale(footage, INDEX), expected, rtol=0.05, atol=2e-3)


def test_a_tremble_stands_out_in_high_orders() -> None:
    footage = slow_motion(FRAMES, 1, seed=0)
    tremble = 0.02 * (-1.0) ** torch.arange(FRAMES)[:, None]

    def excess(difference: Difference) -> float:
        power = difference.apply((footage + tremble)[None]).var() / difference.apply(footage[None]).var()
        return float(power) - 1

    assert excess(Difference(1, 0)) < 0.01
    assert excess(Difference(1)) < 0.2
    assert excess(Difference(1, 3)) > 1


def test_batches_of_the_footage_itself_ask_for_no_change_of_amplitude() -> None:
    """Slow moments vary much among small batches: on average that must not ask for less motion."""
    footage, index = slow_motion(FRAMES, 2, seed=0), INDEX
    moments = MomentStatistics(2, index.window)
    moments.measure(footage, index)
    asked = []
    for step in range(1600):
        amplitude = torch.ones((), requires_grad=True)
        windows = amplitude * gather(footage, index.draw(0, step, 4), index.window)
        (slope,) = torch.autograd.grad(moments.mismatch(windows, ALONE), amplitude)
        asked.append(slope)
    asked = asked[100:]  # the running moments start at zero, and a batch is felt for about 10 steps
    by_turn = torch.stack(asked).view(15, -1).mean(1)
    assert abs(float(by_turn.mean())) < 3 * float(by_turn.std()) / 15**0.5
    assert float(by_turn.std()) / 15**0.5 < 0.05, "a bias would be seen"
