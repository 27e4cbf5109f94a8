"""Shapes, gradients and the published sizes of the two networks."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from svgan_ray.temporal.critic import Critic
from svgan_ray.temporal.generator import TemporalGenerator
from svgan_ray.temporal.recipes import CriticOptions, GeneratorOptions, paper


def test_published_generator_has_the_published_size() -> None:
    generator = TemporalGenerator(paper().generator, 18 * 512, styles=18)
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(4.97e6, rel=1e-3)


@pytest.mark.parametrize("styles", [10, 12, 14, 16, 18])
@pytest.mark.parametrize("frames", [1, 2, 24, 50])
def test_style_head_serves_every_resolution(styles: int, frames: int) -> None:
    options = dataclasses.replace(paper().generator, output_widths=(16,))
    generator = TemporalGenerator(options, styles * 6, styles=styles)
    latents, state = generator(torch.randn(3, frames, 32))
    assert latents.shape == (3, frames, styles * 6)
    assert state.hidden.shape == (4, 3, 32)
    latents.square().sum().backward()
    idle = [name for name, p in generator.named_parameters() if p.grad is None]
    assert not idle


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("features", [1, 16, 64, 256])
@pytest.mark.parametrize("frames", [2, 24, 50])
def test_basis_head(layers: int, width: int, features: int, frames: int) -> None:
    options = GeneratorOptions(layers=layers, width=width, output_widths=(16,))
    generator = TemporalGenerator(options, features)
    latents, _ = generator(torch.randn(2, frames, 32))
    assert latents.shape == (2, frames, features)
    latents.square().sum().backward()
    idle = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_first_output_is_the_first_noise_as_published() -> None:
    generator = TemporalGenerator(GeneratorOptions(), 8).eval()
    noise = torch.randn(3, 4, 32)
    hidden, _ = generator.recur(noise)
    assert torch.equal(hidden[:, 0], noise[:, 0])


@pytest.mark.parametrize("slowest", [0.0, 20.0])
def test_going_on_from_a_state_equals_going_through(slowest: float) -> None:
    options = GeneratorOptions(noise_dim=6, width=10, normalise=False, slowest_noise_frames=slowest)
    generator = TemporalGenerator(options, 4).double()
    noise = torch.randn(2, 30, 6, dtype=torch.float64)
    whole, last = generator(noise)
    parts, state = [], None
    for chunk in noise.split([1, 12, 17], dim=1):
        part, state = generator(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)


def test_smoothed_noise_keeps_unit_variance_and_is_slow_in_half_of_its_dimensions() -> None:
    generator = TemporalGenerator(GeneratorOptions(noise_dim=8, slowest_noise_frames=50.0), 4)
    frames = torch.randn(400, 2000, 8, generator=torch.Generator().manual_seed(0))
    smoothed = generator.colour(frames, frames[0])
    torch.testing.assert_close(smoothed[-1].std(0), torch.ones(8), rtol=0, atol=0.06)
    correlation = (smoothed[300] * smoothed[299]).mean(0)
    assert torch.all(correlation[:4].abs() < 0.1)
    assert torch.all(correlation[4:].diff() > 0)
    assert float(correlation[-1]) == pytest.approx(torch.exp(torch.tensor(-1 / 50)).item(), abs=0.06)


@pytest.mark.parametrize("window", [5, 24, 25, 50])
@pytest.mark.parametrize(("lags", "orders"), [((), ()), ((1, 4), (2, 3))])
@pytest.mark.parametrize("pooled", [False, True])
def test_critic_takes_every_window(
    window: int, lags: tuple[int, ...], orders: tuple[int, ...], pooled: bool
) -> None:
    critic = Critic(CriticOptions(lags=lags, orders=orders, pooled=pooled), features=7, window=window)
    windows = torch.randn(3, window, 7, requires_grad=True)
    scores = critic(windows)
    assert scores.shape == (3,)
    (gradient,) = torch.autograd.grad(scores.sum(), windows)
    assert torch.all(gradient.flatten(1).norm(dim=1) > 0)


@pytest.mark.parametrize("window", [5, 24, 25, 50])
@pytest.mark.parametrize("pooled", [False, True])
def test_slopes_of_the_critic_are_its_gradient_and_differentiable(window: int, pooled: bool) -> None:
    critic = Critic(CriticOptions(lags=(2,), pooled=pooled), features=7, window=window).double()
    observed = torch.randn(3, window, 14, dtype=torch.float64, requires_grad=True)
    weights = [p for name, p in critic.named_parameters() if name.endswith("weight")]
    (expected,) = torch.autograd.grad(critic.score(observed).sum(), observed, create_graph=True)
    slopes = critic.slopes(observed)
    torch.testing.assert_close(slopes, expected, rtol=1e-12, atol=1e-14)
    second = torch.autograd.grad(slopes.square().sum(), weights)
    for one, other in zip(second, torch.autograd.grad(expected.square().sum(), weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_critic_observes_differences_in_their_own_scale() -> None:
    critic = Critic(CriticOptions(lags=(2,), orders=(3,)), features=3, window=6)
    critic.scales.copy_(torch.tensor([0.5, 0.25])[:, None])
    windows = torch.randn(2, 6, 3)
    observed = critic.observe(windows)
    assert torch.equal(observed[..., :3], windows)
    assert torch.equal(observed[:, 2:, 3:6], (windows[:, 2:] - windows[:, :-2]) * 2)
    assert torch.equal(observed[:, 3:, 6:], windows.diff(n=3, dim=1) * 4)
    assert not observed[:, :2, 3:6].any() and not observed[:, :3, 6:].any()
