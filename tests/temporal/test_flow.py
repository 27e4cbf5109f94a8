"""The family `flow`: what it learns, that it resumes and divides to the same numbers, and endless samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from svgan_ray.errors import ConfigError
from svgan_ray.latents.basis import LatentBasis, fit_basis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.temporal.model import load_model, model_of, save_model
from svgan_ray.temporal.recipes import FlowOptions, TemporalConfig, demo
from svgan_ray.temporal.sampling import sample_latents
from svgan_ray.temporal.training import TrainingState, new_state, train_step
from svgan_ray.temporal.workers import Workers

STEPS = 4


def small(**changes: object) -> TemporalConfig:
    options = FlowOptions(width=16, blocks=3, given_frames=4, solver_steps=4, learning_rate=5e-3)
    config = TemporalConfig(
        family="flow", basis_size=2, window_frames=16, batch_size=8, steps=400, flow=options
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def footage() -> tuple[LatentBasis, Tensor, WindowIndex]:
    """A slow wave and a fast one, in latents of [2, 3]."""
    time = torch.arange(600.0)
    waves = torch.stack([torch.sin(time / 5), 0.5 * torch.sin(time / 2)], 1)
    w_plus = (waves @ torch.randn(2, 6, generator=torch.Generator().manual_seed(0))).unflatten(1, (2, 3))
    basis = fit_basis([w_plus], 2)
    return basis, basis.project(w_plus), WindowIndex([(0, 600)], 16)


def trained(
    footage: tuple[LatentBasis, Tensor, WindowIndex], steps: int, workers: Workers | None = None
) -> TrainingState:
    basis, features, index = footage
    state = new_state(small(), basis, workers=workers or Workers())
    for _ in range(steps):
        train_step(state, features, index)
    return state


def test_training_brings_motion_close_to_the_footage(
    footage: tuple[LatentBasis, Tensor, WindowIndex],
) -> None:
    """The size and the pace of waves, which an untrained generator does not have."""
    basis, features, _ = footage

    def error(state: TrainingState) -> float:
        model = model_of(state, basis.mean, "0" * 64)
        motion = basis.project(torch.cat(list(sample_latents(model, 0, 400))))
        pace = [(x[1:] * x[:-1]).mean(0) for x in (motion, features)]
        return float((motion.std(0) - features.std(0)).abs().max() + (pace[0] - pace[1]).abs().max())

    before, after = error(trained(footage, 0)), error(trained(footage, 400))
    assert before > 0.5
    assert after < 0.25


def test_a_resumed_training_has_the_same_bits(
    footage: tuple[LatentBasis, Tensor, WindowIndex], tmp_path: Path
) -> None:
    _, features, index = footage
    whole, half = trained(footage, 2 * STEPS), trained(footage, STEPS)
    save_checkpoint(half, tmp_path)
    resumed = load_checkpoint(tmp_path, config=small())
    for _ in range(STEPS):
        train_step(resumed, features, index)
    for name, module in whole.modules().items():
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, resumed.modules()[name].state_dict()[key]), (name, key)


def test_the_loss_of_two_workers_is_that_of_one(footage: tuple[LatentBasis, Tensor, WindowIndex]) -> None:
    """Each of two workers sees half of the batch; the halves of the sums are added up by hand."""
    basis, features, index = footage
    alone = new_state(small(), basis)
    expected = train_step(alone, features, index)["velocity"]
    halves = []
    for rank in range(2):
        state = new_state(small(), basis, workers=Workers(rank, 2))
        halves.append(train_step(state, features, index)["velocity"])
    assert torch.allclose(torch.stack(halves).sum(), expected, atol=1e-6)


def test_samples_do_not_depend_on_how_they_are_asked_for(
    footage: tuple[LatentBasis, Tensor, WindowIndex], tmp_path: Path
) -> None:
    model = model_of(trained(footage, STEPS), footage[0].mean.clone(), "0" * 64)
    save_model(model, tmp_path / "model")
    whole = torch.cat(list(sample_latents(model, 3, 50)))
    parts = torch.cat(list(sample_latents(load_model(tmp_path / "model"), 3, 30, chunk_frames=7)))
    assert torch.equal(parts, whole[:30])
    assert not torch.equal(torch.cat(list(sample_latents(model, 4, 30))), whole[:30])


def test_records_of_gans_do_not_change() -> None:
    assert not {"family", "flow"} & demo().to_dict().keys()
    assert TemporalConfig.from_dict(demo().to_dict()) == demo()
    assert TemporalConfig.from_dict(small().to_dict()) == small()


def test_a_window_must_be_longer_than_what_is_given() -> None:
    with pytest.raises(ConfigError, match=r"window_frames is 4, expected more than flow\.given_frames"):
        small(window_frames=4)
    with pytest.raises(ConfigError, match="set latent_space to 'basis'"):
        small(latent_space="w_plus")
