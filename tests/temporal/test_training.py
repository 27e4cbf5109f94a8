"""Training: bit-exact resume, agreement of several workers, and that it learns."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from svgan_ray.errors import ConfigError, DivergenceError, WeightsError
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.background import background_executor, second_thread
from svgan_ray.temporal.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.temporal.recipes import RECIPES, TemporalConfig
from svgan_ray.temporal.training import check_finite, new_state, represent, restore, train_step
from svgan_ray.temporal.workers import ALONE, GlobalBatchNorm, Workers
from tests.meeting import Meeting, together

from .conftest import MODERN, SMALL, weights


def test_resume_is_bit_equal_to_not_having_stopped(
    config: TemporalConfig, basis: LatentBasis, features: Tensor, index: WindowIndex, tmp_path: Path
) -> None:
    state = new_state(config, basis)
    for _ in range(5):
        train_step(state, features, index)
    save_checkpoint(state, tmp_path)
    resumed = load_checkpoint(tmp_path, config=config)
    for _ in range(4):
        train_step(state, features, index)
        train_step(resumed, features, index)
    assert resumed.step == state.step == 9
    ours, theirs = weights(state), weights(resumed)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For each of torch's operations, on whose number of threads their last bits may depend."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_second_thread_changes_no_bit(
    config: TemporalConfig, basis: LatentBasis, features: Tensor, index: WindowIndex, one_thread: None
) -> None:
    alone, beside = new_state(config, basis), new_state(config, basis)
    with second_thread() as beside.background:
        for _ in range(8):
            expected, losses = (train_step(state, features, index) for state in (alone, beside))
            assert {k: float(v) for k, v in losses.items()} == {k: float(v) for k, v in expected.items()}
    ours, theirs = weights(beside), weights(alone)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("threads", "space", "workers", "second"),
    [
        (2, "basis", ALONE, True),
        (1, "basis", ALONE, False),
        (2, "w_plus", ALONE, False),
        (2, "basis", Workers(0, 2, torch.clone), False),
    ],
)
def test_there_is_a_second_thread_where_it_helps(
    threads: int, space: Literal["basis", "w_plus"], workers: Workers, second: bool
) -> None:
    before, switch_interval_s = torch.get_num_threads(), sys.getswitchinterval()
    try:
        torch.set_num_threads(threads)
        with background_executor(dataclasses.replace(SMALL, latent_space=space), "cpu", workers) as executor:
            assert isinstance(executor, ThreadPoolExecutor) == second
            assert torch.get_num_threads() == (1 if second else threads)
            assert (sys.getswitchinterval() < switch_interval_s) == second
            name = executor.submit(lambda: threading.current_thread().name).result()
            assert (name != threading.current_thread().name) == second
        assert torch.get_num_threads() == threads, "what is set for the process is undone"
        assert sys.getswitchinterval() == switch_interval_s
    finally:
        torch.set_num_threads(before)


def test_threads_are_as_before_where_training_fails() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(DivergenceError), background_executor(SMALL, "cpu", ALONE):
            raise DivergenceError("planted")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_every_network_and_the_average_move(
    config: TemporalConfig, basis: LatentBasis, features: Tensor, index: WindowIndex
) -> None:
    state = new_state(config, basis)
    before = {name: t.clone() for name, t in weights(state).items()}
    losses: dict[str, Tensor] = {}
    for _ in range(2):
        losses |= train_step(state, features, index)
    assert {"critic", "generator", "gradient_penalty"} <= losses.keys()
    moved = {name for name, t in weights(state).items() if not torch.equal(t, before[name])}
    trained = {name for name in before if name.startswith(("generator.", "critic.", "ema."))}
    # The initial state is warmed away where there is a warm-up, and so has no gradient.
    still = {
        name for name in trained - moved if ".initial." not in name and not name.endswith("critic.scales")
    }
    assert still == set()
    check_finite(losses, state.step)


def test_learning_rates_cool_down_over_the_last_steps(
    basis: LatentBasis, w_plus: Tensor, tmp_path: Path
) -> None:
    optimiser = dataclasses.replace(SMALL.optimiser, critic_learning_rate=3e-4, cool_down=0.5)
    config = dataclasses.replace(SMALL, optimiser=optimiser, steps=8)
    features, index = represent(config, basis, w_plus), WindowIndex([(0, 120)], config.window_frames)
    state, rates = new_state(config, basis), []
    for _ in range(8):
        if state.step == 6:
            save_checkpoint(state, tmp_path)
            state = load_checkpoint(tmp_path, config=config)
        train_step(state, features, index)
        rates.append([optimiser.param_groups[0]["lr"] for optimiser in state.optimisers().values()])
    shares = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [rate / 1e-4 for rate, _ in rates] == pytest.approx(shares)
    assert [rate / 3e-4 for _, rate in rates] == pytest.approx(shares)


def test_running_out_of_the_finite_is_named() -> None:
    with pytest.raises(DivergenceError, match="'critic' is nan at step 7"):
        check_finite({"critic": torch.tensor(float("nan"))}, 7)


def test_checkpoint_of_another_configuration(basis: LatentBasis, tmp_path: Path) -> None:
    save_checkpoint(new_state(SMALL, basis), tmp_path)
    longer = dataclasses.replace(SMALL, steps=SMALL.steps * 2)
    assert load_checkpoint(tmp_path, config=longer).config == longer
    with pytest.raises(ConfigError, match="batch_size: 6 there, 8 here"):
        load_checkpoint(tmp_path, config=dataclasses.replace(SMALL, batch_size=8))


def test_incomplete_checkpoint(basis: LatentBasis, tmp_path: Path) -> None:
    save_checkpoint(new_state(SMALL, basis), tmp_path)
    tensors = tmp_path / "checkpoint.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="no whole checkpoint"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoint.json").unlink()
    with pytest.raises(WeightsError, match="no whole checkpoint"):
        load_checkpoint(tmp_path)


def test_represent_and_restore_are_inverse(
    w_plus: Tensor, basis: LatentBasis, config: TemporalConfig
) -> None:
    w_plus = basis.reconstruct(basis.project(w_plus))
    torch.testing.assert_close(
        restore(config, basis, represent(config, basis, w_plus)), w_plus, rtol=0, atol=1e-5
    )


def test_recipes_survive_json() -> None:
    for recipe in RECIPES.values():
        config = recipe()
        assert TemporalConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="generator has no key 'depth'"):
        TemporalConfig.from_dict({"generator": {"depth": 3}})


def test_workers_agree_with_one_alone(
    config: TemporalConfig, basis: LatentBasis, features: Tensor, index: WindowIndex
) -> None:
    """Three workers share seven samples, so that their slices differ in length."""
    world, config = 3, dataclasses.replace(config, batch_size=7)
    basis, features = basis.to(dtype=torch.float64), features.double()
    alone = new_state(config, basis, dtype=torch.float64)
    expected = [train_step(alone, features, index) for _ in range(10)]
    meeting = Meeting(world)
    workers = [Workers(rank, world, meeting.all_reduce_of(rank)) for rank in range(world)]
    states = [new_state(config, basis, workers=w, dtype=torch.float64) for w in workers]

    def train(rank: int) -> None:
        for losses in expected:
            got = train_step(states[rank], features, index)
            for name, loss in losses.items():
                torch.testing.assert_close(got[name], loss, rtol=1e-9, atol=1e-9)

    together(meeting, train)
    for state in states:
        for name, value in weights(alone).items():
            torch.testing.assert_close(weights(state)[name], value, rtol=0, atol=1e-9)


def test_global_batch_norm_equals_torch_and_has_second_derivatives() -> None:
    ours, theirs = GlobalBatchNorm(4), nn.BatchNorm1d(4)
    x = torch.randn(10, 4)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    ours = ours.double().train()
    assert torch.autograd.gradgradcheck(ours, x[:3].double().requires_grad_())


def test_it_learns_the_spread_and_speed_of_the_footage(basis: LatentBasis, w_plus: Tensor) -> None:
    config = dataclasses.replace(
        MODERN,
        batch_size=16,
        generator=dataclasses.replace(MODERN.generator, width=24),
        optimiser=dataclasses.replace(
            MODERN.optimiser, generator_learning_rate=3e-3, critic_learning_rate=3e-3
        ),
        ema_decay=0.97,
    )
    features = represent(config, basis, w_plus)
    index = WindowIndex([(0, 60), (60, 120)], config.window_frames)
    state = new_state(config, basis)

    def mismatch() -> float:
        latents, _ = state.ema(torch.randn(64, 40, 5, generator=torch.Generator().manual_seed(0)))
        latents = latents[:, 20:]
        speed = (latents[:, 1:] - latents[:, :-1]).std((0, 1)) / features.diff(dim=0).std(0)
        return float((latents.std((0, 1)) - 1).abs().mean() + (speed - 1).abs().mean())

    untrained = mismatch()
    for _ in range(250):
        train_step(state, features, index)
    assert mismatch() < 0.4 * untrained
