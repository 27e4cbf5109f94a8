"""Refinement on the demo's own portraits, and what it holds on to."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from svgan_ray.demo.behaviour import behave, subject
from svgan_ray.demo.renderer import render
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.stylegan import Generator, load_encoder, load_generator, weights_folders
from svgan_ray.stylegan.refinement import RefinementConfig, refine

FRAMES = 5
FEW = RefinementConfig(steps=20)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return load_generator(weights_folders("demo")[0])


@pytest.fixture(scope="module")
def footage(generator: Generator) -> Tensor:
    person = subject(10_000, own_temperament=True)
    return render(behave(person, FRAMES), generator.config.resolution)


@pytest.fixture(scope="module")
def encoded(footage: Tensor) -> Tensor:
    with torch.inference_mode():
        return load_encoder(weights_folders("demo")[1]).encode(footage)


def _psnr_db(generator: Generator, w_plus: Tensor, footage: Tensor) -> float:
    with torch.inference_mode():
        error = ((generator.synthesis(w_plus).clamp(-1, 1) - footage) / 2).square().mean()
    return float(-10 * error.log10())


def _jitter(pictures: Tensor) -> float:
    return float(pictures.clamp(-1, 1).diff(n=2, dim=0).square().mean().sqrt())


def test_gains_3_db_without_jitter(generator: Generator) -> None:
    """Of the demo's unseen people the one whose encoded latents tremble most."""
    footage = render(behave(subject(10_000, own_temperament=True), 8), generator.config.resolution)
    with torch.inference_mode():  # as in the encoder actor
        encoded = load_encoder(weights_folders("demo")[1]).encode(footage)
        before = generator.synthesis(encoded)
        refined = refine(footage, encoded, generator.synthesis, RefinementConfig())
        pictures = generator.synthesis(refined)
    assert RefinementConfig().steps <= 100
    gain_db = _psnr_db(generator, refined, footage) - _psnr_db(generator, encoded, footage)
    assert gain_db > 3
    assert _jitter(pictures) <= _jitter(footage) < _jitter(before)


def test_is_repeatable_and_leaves_its_input_alone(
    generator: Generator, footage: Tensor, encoded: Tensor
) -> None:
    config, before = dataclasses.replace(FEW, steps=2), encoded.clone()
    first, second = (refine(footage, encoded, generator.synthesis, config) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(encoded, before)
    assert not first.requires_grad
    assert all(parameter.grad is None for parameter in generator.parameters())
    in_twos = refine(footage, encoded, generator.synthesis, config, batch_frames=2)
    torch.testing.assert_close(in_twos, first, atol=1e-3, rtol=0)


def _linear(w_plus: Tensor) -> Tensor:
    """A synthesis whose pictures are the latents themselves."""
    return w_plus.reshape(len(w_plus), 1, 8, 8)


def _fitted(noise: Tensor, smoothness_weight: float = 0.1, distance_weight: float = 0.001) -> Tensor:
    config = RefinementConfig(
        steps=50,
        learning_rate=0.05,
        smoothness_weight=smoothness_weight,
        distance_weight=distance_weight,
        acceleration_weight=0,
    )
    return refine(_linear(noise), torch.zeros_like(noise), _linear, config)


def test_jitter_of_the_encoder_goes_and_its_motion_stays() -> None:
    course = torch.linspace(0, 3, 24).sin()[:, None, None].expand(24, 4, 16)
    noise = 0.1 * torch.randn(24, 4, 16, generator=torch.Generator().manual_seed(0))
    config = RefinementConfig(steps=50, acceleration_weight=1.0, smoothness_weight=0.01)
    fitted = refine(_linear(course.clone()), course + noise, _linear, config)
    assert fitted.diff(n=2, dim=0).std() < 0.3 * (course + noise).diff(n=2, dim=0).std()
    assert (fitted - course).square().mean() < 0.5 * noise.square().mean()


def test_distance_keeps_near_and_smoothness_keeps_calm() -> None:
    noise = 0.3 * torch.randn(6, 4, 16, generator=torch.Generator().manual_seed(0))
    free = _fitted(noise, distance_weight=0, smoothness_weight=0)
    assert F.mse_loss(free, noise) < 0.1 * noise.square().mean()
    near = _fitted(noise, distance_weight=100)
    assert near.square().mean() < 0.01 * free.square().mean()
    calm = _fitted(noise, smoothness_weight=100)
    assert calm.diff(dim=0).square().mean() < 0.01 * free.diff(dim=0).square().mean()
    assert calm.square().mean() > 0.05 * free.square().mean()  # what the frames have in common remains


def test_spans_that_overlap_meet() -> None:
    """Fitted in two spans with common neighbours, the seam changes no more than within a span."""
    course = torch.linspace(0, 6, 40).sin()[:, None, None].expand(40, 4, 16)
    whole = _fitted(course)
    overlap = RefinementConfig.overlap_frames
    apart = torch.cat([_fitted(course[: 20 + overlap])[:20], _fitted(course[20 - overlap :])[overlap:]])
    seam = (apart[20] - apart[19]).abs().max()
    assert seam < 1.1 * (whole[20] - whole[19]).abs().max()
    assert (apart - whole).abs().max() < 0.02


def test_a_perceptual_loss_of_the_user_counts(generator: Generator, footage: Tensor, encoded: Tensor) -> None:
    def darkness(pictures: Tensor, images: Tensor) -> Tensor:
        assert pictures.shape == images.shape
        return (pictures + 1).square().mean(dim=(1, 2, 3))

    config = dataclasses.replace(FEW, steps=5, perceptual_weight=10)
    darkened = refine(footage[:2], encoded[:2], generator.synthesis, config, perceptual=darkness)
    with torch.inference_mode():
        before, after = (generator.synthesis(w).mean() for w in (encoded[:2], darkened))
    assert after < before - 0.05


@pytest.mark.parametrize("side", [32, 256])
def test_pictures_and_images_may_differ_in_side(
    generator: Generator, footage: Tensor, encoded: Tensor, side: int
) -> None:
    images = F.interpolate(footage[:1], size=(side, side), mode="area")
    refined = refine(images, encoded[:1], generator.synthesis, FEW)
    assert _psnr_db(generator, refined, footage[:1]) > _psnr_db(generator, encoded[:1], footage[:1])


def test_refusals() -> None:
    with pytest.raises(DataError, match="as many images as latents, got 2 and 3"):
        refine(torch.zeros(2, 3, 8, 8), torch.zeros(3, 4, 16), _linear, FEW)
    with pytest.raises(ConfigError, match="refinement steps: expected 1 or more, got 0"):
        RefinementConfig(steps=0)
    with pytest.raises(ConfigError, match="learning_rate"):
        RefinementConfig(learning_rate=0)
