"""Samples of any length, the same however they are cut; models as folders; the offset trick."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from svgan_ray.errors import WeightsError
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.stylegan.generator import Generator
from svgan_ray.temporal.model import MotionModel, load_model, model_of, save_model
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import (
    Blend,
    frame_noise,
    generate,
    latents_of_samples,
    sample_latents,
    transfer,
)
from svgan_ray.temporal.training import new_state
from tests.footage import GENERATOR

from .conftest import MODERN


@pytest.fixture
def model(config: TemporalConfig, basis: LatentBasis, w_plus: Tensor) -> MotionModel:
    return model_of(new_state(config, basis), w_plus.mean(0), "f" * 64, {"subject": "Ada"})


def test_samples_are_the_same_however_they_are_cut(model: MotionModel) -> None:
    whole = torch.cat(list(sample_latents(model, seed=3, frames=300)))
    assert whole.shape == (300, 3, 4)
    for frames, chunk in [(300, 7), (300, 64), (131, 50), (1, 8)]:
        chunks = list(sample_latents(model, seed=3, frames=frames, chunk_frames=chunk))
        assert [len(c) for c in chunks[:-1]] == [chunk] * (len(chunks) - 1)
        assert torch.equal(torch.cat(chunks), whole[:frames])


def test_samples_are_the_same_within_any_batch(model: MotionModel) -> None:
    """Within 1e-5 in W+: products of other sizes round differently."""
    together = torch.cat(list(latents_of_samples(model, 3, 150, range(7))), dim=1)
    assert together.shape == (7, 150, 3, 4)
    for sample in range(7):
        alone = torch.cat(list(sample_latents(model, 3, 150, sample)))
        torch.testing.assert_close(together[sample], alone, rtol=0, atol=1e-5)
    pair = torch.cat(list(latents_of_samples(model, 3, 150, [6, 2])), dim=1)
    torch.testing.assert_close(pair, together[[6, 2]], rtol=0, atol=1e-5)


def test_pictures_differ_by_one_grey_level_at_most_in_any_batch() -> None:
    torch.manual_seed(0)
    generator = Generator(GENERATOR).eval()
    w_plus = torch.randn(33, GENERATOR.num_ws, GENERATOR.w_dim)
    whole, *others = (
        np.concatenate(list(render(generator, [w_plus], batch_frames=frames))).astype(int)
        for frames in (33, 1, 2, 16)
    )
    assert whole.shape == (33, 32, 32, 3) and whole.std() > 1
    for other in others:
        assert np.abs(other - whole).max() <= 1


def test_a_blend_lies_between_two_motions(model: MotionModel) -> None:
    def motion(seed: int, blend: Blend | None = None) -> Tensor:
        return torch.cat(list(sample_latents(model, seed, 100, blend=blend)))

    first, second = motion(1), motion(2)
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    blended = [motion(1, Blend(2, share)) for share in shares]
    assert torch.equal(blended[0], first)
    torch.testing.assert_close(blended[-1], second, rtol=0, atol=1e-5)
    distances = [float((one - first).square().mean()) for one in blended]
    assert distances == sorted(distances) and distances[0] < distances[1] < distances[-1]
    between = Blend(2, 0.3).mix(*(frame_noise(seed, 0, 0, 4000, 8) for seed in (1, 2)))
    torch.testing.assert_close(between.std(0), torch.ones(8), rtol=0, atol=0.06)


def test_seed_and_sample_make_the_motion(model: MotionModel) -> None:
    samples = [torch.cat(list(sample_latents(model, s, 20, k))) for s, k in [(0, 0), (0, 1), (1, 0)]]
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in itertools.combinations(samples, 2))


def test_endless_samples_need_no_more_memory(model: MotionModel) -> None:
    """A billion frames are asked for: were they computed or kept, this would not return."""
    chunks = itertools.islice(sample_latents(model, 0, 10**9, chunk_frames=10), 3)
    assert [len(chunk) for chunk in chunks] == [10, 10, 10]


def test_truncation_draws_towards_the_mean(model: MotionModel) -> None:
    full, half, none = (torch.cat(list(sample_latents(model, 0, 30, truncation=t))) for t in (1.0, 0.5, 0.0))
    torch.testing.assert_close(none, model.basis.mean.expand_as(none))
    torch.testing.assert_close(half, (full + none) / 2)


def test_many_samples_at_once(model: MotionModel) -> None:
    features = torch.cat(list(generate(model, samples=5, frames=100, seed=1)), dim=1)
    assert features.shape[:2] == (5, 100)
    again = torch.cat(list(generate(model, samples=5, frames=70, seed=1)), dim=1)
    assert torch.equal(features[:, :70], again)
    assert not torch.equal(features[0], features[1])


@settings(max_examples=20, suppress_health_check=[HealthCheck.differing_executors])
@given(st.integers(0, 2**40), st.integers(-100, 100), st.integers(1, 20))
def test_noise_belongs_to_the_frame(seed: int, start: int, count: int) -> None:
    noise = frame_noise(seed, 2, start, count, 4)
    alone = [frame_noise(seed, 2, frame, 1, 4)[0] for frame in range(start, start + count)]
    assert torch.equal(noise, torch.stack(alone))


def test_noise_is_white() -> None:
    noise = frame_noise(0, 0, 0, 4000, 8)
    torch.testing.assert_close(noise.mean(0), torch.zeros(8), rtol=0, atol=0.08)
    torch.testing.assert_close(noise.std(0), torch.ones(8), rtol=0, atol=0.06)
    assert float((noise[1:] * noise[:-1]).mean(0).abs().max()) < 0.08


def test_offset_trick() -> None:
    w_plus, w_ref, w_new = torch.randn(6, 3, 4), torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(transfer(w_plus, w_ref, w_ref), w_plus)
    torch.testing.assert_close(transfer(w_plus, w_ref, w_new, strength=0.0), w_new.expand(6, 3, 4))
    moved = transfer(w_plus, w_ref, w_new, strength=2.0, layers=[0, 2])
    torch.testing.assert_close(moved[:, 1], w_new[1].expand(6, 4))
    torch.testing.assert_close(moved[:, [0, 2]], (w_new + 2 * (w_plus - w_ref))[:, [0, 2]])


def test_model_folder_round_trip(model: MotionModel, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "ada"
    save_model(model, folder)
    save_model(model, folder)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["ada"]
    again = load_model(folder)
    assert (again.config, again.generator_sha256, again.card) == (
        model.config,
        model.generator_sha256,
        model.card,
    )
    one, other = (torch.cat(list(sample_latents(m, 0, 40))) for m in (model, again))
    assert torch.equal(one, other)
    card = (folder / "README.md").read_text()
    assert "| subject | Ada |" in card and "consent" in card


def test_later_steps_do_not_change_a_model(basis: LatentBasis, w_plus: Tensor) -> None:
    state = new_state(MODERN, basis)
    model = model_of(state, w_plus.mean(0), "0" * 64)
    before = torch.cat(list(sample_latents(model, 0, 10)))
    for parameter in state.ema.parameters():
        parameter.add_(1.0)
    assert torch.equal(torch.cat(list(sample_latents(model, 0, 10))), before)


@pytest.mark.parametrize(("missing", "mended"), [(0.95, 1.0), (1.05, 1.0), (0.5, 0.55), (3.0, 3.0 / 1.1)])
def test_motion_is_as_large_as_the_footages_if_it_nearly_is(
    basis: LatentBasis, w_plus: Tensor, missing: float, mended: float
) -> None:
    """By a tenth at most: more would pass a generator for one that has learnt to move."""
    state = new_state(MODERN, basis)
    untouched = model_of(state, w_plus.mean(0), "0" * 64)
    motion = torch.cat(list(generate(untouched, 200, 300, seed=1)), 1)
    assert state.moments is not None
    state.step = 1
    state.moments.footage[0] = torch.cov(motion.flatten(0, 1).T) / missing**2

    model = model_of(state, w_plus.mean(0), "0" * 64)

    amplified = torch.cat(list(generate(model, 200, 300, seed=1)), 1)
    share = (amplified.flatten(0, 1).var(0).sum() / state.moments.footage_variance.sum()).sqrt()
    assert float(share) == pytest.approx(mended, rel=0.03)
    before_training = model_of(dataclasses.replace(state, step=0), w_plus.mean(0), "0" * 64)
    assert torch.equal(torch.cat(list(generate(before_training, 200, 300, seed=1)), 1), motion)


@pytest.mark.parametrize("damage", ["missing", "no tensors", "schema", "not json"])
def test_damaged_model_folder(damage: str, basis: LatentBasis, w_plus: Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if damage != "missing":
        save_model(model_of(new_state(MODERN, basis), w_plus.mean(0), "0" * 64), folder)
    record = folder / "model.json"
    if damage == "no tensors":
        (folder / "model.safetensors").write_bytes(b"")
    if damage == "schema":
        record.write_text(json.dumps({**json.loads(record.read_text()), "schema": 99}))
    if damage == "not json":
        record.write_text("{")
    with pytest.raises(WeightsError, match="model"):
        load_model(folder)
