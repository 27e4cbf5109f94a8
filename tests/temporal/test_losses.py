"""Both penalties against finite differences, and the angle penalty's two regimes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from svgan_ray.temporal.critic import Critic
from svgan_ray.temporal.generator import TemporalGenerator
from svgan_ray.temporal.losses import (
    gradient_angle_penalty,
    one_centred_penalty,
    relativistic_loss,
    zero_centred_penalty,
)
from svgan_ray.temporal.recipes import CriticOptions, GeneratorOptions


def numeric_gradient(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function."""
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        offset = torch.zeros_like(x).view(-1)
        offset[i] = step
        offset = offset.view_as(x)
        gradient.view(-1)[i] = (function(x + offset) - function(x - offset)) / (2 * step)
    return gradient


def small_critic() -> Critic:
    torch.manual_seed(1)
    return Critic(CriticOptions(frame_widths=(8, 6), time_widths=(5,)), features=3, window=6).double()


def windows(seed: int, samples: int = 2) -> Tensor:
    return torch.randn(samples, 6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gradient_penalty_takes_the_norm_over_all_dimensions_of_a_sample() -> None:
    critic, between = small_critic(), windows(1)
    norms = [numeric_gradient(lambda x: critic(x[None])[0].detach(), x).norm() for x in between]
    expected = (torch.stack(norms) - 1) ** 2
    torch.testing.assert_close(one_centred_penalty(critic.slopes(between)), expected, rtol=1e-6, atol=1e-8)


def test_gradient_penalty_gradient_reaches_the_critic() -> None:
    critic, between = small_critic(), windows(1)
    weight = critic.frame[0].weight
    (by_autograd,) = torch.autograd.grad(one_centred_penalty(critic.slopes(between)).sum(), weight)

    def penalty(value: Tensor) -> Tensor:
        weight.data = value
        return one_centred_penalty(critic.slopes(between)).sum().detach()

    torch.testing.assert_close(
        numeric_gradient(penalty, weight.data.clone()), by_autograd, rtol=1e-4, atol=1e-7
    )


def test_zero_centred_penalty() -> None:
    critic, real = small_critic(), windows(1)
    norms = [numeric_gradient(lambda x: critic(x[None])[0].detach(), x).square().sum() for x in real]
    torch.testing.assert_close(
        zero_centred_penalty(critic.slopes(real)), torch.stack(norms) / 2, rtol=1e-6, atol=1e-8
    )


def test_relativistic_loss_falls_as_the_winner_rises() -> None:
    low = torch.zeros(3)
    assert torch.all(relativistic_loss(low + 2, low) < relativistic_loss(low, low))
    torch.testing.assert_close(relativistic_loss(low, low), torch.full((3,), math.log(2)))


def small_generator() -> TemporalGenerator:
    torch.manual_seed(2)
    options = GeneratorOptions(noise_dim=4, layers=2, width=4, initial_widths=(6,), output_widths=(6,))
    return TemporalGenerator(options, features=3).double().eval()


def change_of(generator: TemporalGenerator, noise: Tensor) -> Tensor:
    hidden, _ = generator.recur(noise)
    return hidden[:, -1] - hidden[:, 0]


def test_angle_penalty_against_finite_differences() -> None:
    generator = small_generator()
    noise = torch.randn(
        2, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True
    )
    mean, std = torch.full((4,), 0.1, dtype=torch.float64), torch.full((4,), 0.7, dtype=torch.float64)
    penalty = gradient_angle_penalty(noise, change_of(generator, noise), mean, std).detach()

    def distance(one: Tensor) -> Tensor:
        return ((change_of(generator, one[None]) - mean) / std).norm().detach()

    for sample, value in zip(noise.detach(), penalty, strict=True):
        gradient = numeric_gradient(distance, sample)
        angle = math.atan2(float(gradient[1:].norm()), float(gradient[0].norm()))
        assert float(value) == pytest.approx(min(0.0, angle - math.pi / 4) ** 2, rel=1e-5, abs=1e-9)


def test_angle_penalty_gradient_reaches_the_recurrence() -> None:
    generator = small_generator()
    noise = torch.randn(
        2, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True
    )
    zero, one = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    weight = generator.layers[0].from_hidden.weight

    def penalty() -> Tensor:
        return gradient_angle_penalty(noise, change_of(generator, noise), zero, one).sum()

    (by_autograd,) = torch.autograd.grad(penalty(), weight)

    def at(value: Tensor) -> Tensor:
        weight.data = value
        return penalty().detach()

    assert float(by_autograd.norm()) > 1e-4
    torch.testing.assert_close(numeric_gradient(at, weight.data.clone()), by_autograd, rtol=1e-4, atol=1e-7)


def test_angle_penalty_is_zero_where_later_noise_matters_and_positive_where_it_is_masked() -> None:
    noise = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    fair = noise[:, 1:].sum(1) + noise[:, 0]
    assert torch.equal(gradient_angle_penalty(noise, fair, zero, one), torch.zeros(3, dtype=torch.float64))
    masked = 0 * noise[:, 1:].sum(1) + noise[:, 0]
    expected = torch.full((3,), (math.pi / 4) ** 2, dtype=torch.float64)
    torch.testing.assert_close(gradient_angle_penalty(noise, masked, zero, one), expected, rtol=0, atol=1e-5)


def test_angle_penalty_of_a_generator_is_zero_or_positive_by_which_noise_reaches_it() -> None:
    """The published generator at its start: l_0 = s_0, and later noise arrives through the gates alone."""
    generator = small_generator()
    noise = torch.randn(64, 5, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    zero, one = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)

    def penalty_and_gradient(later_share: float) -> tuple[Tensor, Tensor]:
        driver = noise.clone().requires_grad_()
        reaching = torch.cat([driver[:, :1], later_share * driver[:, 1:]], dim=1)
        change = change_of(generator, reaching)
        penalty = gradient_angle_penalty(driver, change, zero, one).detach()
        return penalty, torch.autograd.grad(change.norm(dim=1).sum(), driver)[0]

    masked, _ = penalty_and_gradient(0.0)
    torch.testing.assert_close(masked, torch.full_like(masked, (math.pi / 4) ** 2), rtol=0, atol=1e-5)
    penalty, gradient = penalty_and_gradient(20.0)
    fair = gradient[:, 1:].flatten(1).norm(dim=1) >= gradient[:, 0].norm(dim=1)
    assert fair.any() and not fair.all()
    assert torch.equal(penalty == 0, fair)
