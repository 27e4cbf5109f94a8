"""Recorded steps: nothing in one depends on what a recording cannot know, and repeating it changes no bit."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.recording import OneByOne, Recorder, recorder_of
from svgan_ray.temporal.training import TrainingState, new_state, represent, train_step
from svgan_ray.temporal.workers import ALONE, Workers

from .conftest import MODERN, SMALL, weights

R = TypeVar("R")
STEPS = 14
# A value that the host reads, and one that it makes up.
NOT_ON_A_TAPE = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.lift_fresh.default


class Tape(TorchDispatchMode):
    """A recording on the CPU, as strict as a CUDA graph: operations and the tensors they work on, no more."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in NOT_ON_A_TAPE or torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"a recording holds neither values nor random numbers: {func}")
        for tensor in written(func, args, kwargs):
            self.before.append((tensor, tensor.detach().clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.operations:
            if any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
                continue  # a view, of memory that stays
            again = func(*args, **kwargs)
            if not any(r.alias_info for r in func._schema.returns):
                for tensor, value in zip(tensors(result), tensors(again), strict=True):
                    tensor.copy_(value)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in tensors(v)] if isinstance(value, list | tuple) else []


def written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """What an operation changes in place; of one, its schema does not say so."""
    if func is torch.ops.aten.native_batch_norm.default:
        return tensors([*args[3:5]])
    given = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    changed = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
    return [t for name in changed if name in given for t in tensors(given[name])]


def tape(work: Callable[[], R]) -> tuple[Callable[[], None], R]:
    """Unlike a GPU's recording it does what it records, and so has to undo it."""
    recorded = Tape()
    try:
        with recorded:
            result = work()
    finally:
        recorded.undo()
    return recorded.replay, result


def with_rates_on_device(state: TrainingState) -> TrainingState:
    """A recorded number would be the same at every step; on a GPU `new_state` does this."""
    for optimiser in state.optimisers().values():
        (group,) = optimiser.param_groups
        group["lr"] = torch.tensor(group["lr"])
    return state


def test_a_recorded_step_changes_no_bit(
    config: TemporalConfig, basis: LatentBasis, features: Tensor, index: WindowIndex
) -> None:
    options = dataclasses.replace(config.optimiser, cool_down=1.0)
    config = dataclasses.replace(config, optimiser=options, steps=2 * STEPS)
    plain, recorded = (with_rates_on_device(new_state(config, basis)) for _ in range(2))
    taken = []

    def counted(work: Callable[[], R]) -> tuple[Callable[[], None], R]:
        recording = tape(work)
        taken.append(work)
        return recording

    recorded.recorder = Recorder(counted)
    for _ in range(STEPS):
        expected, losses = (train_step(state, features, index) for state in (plain, recorded))
        assert {k: float(v) for k, v in losses.items()} == {k: float(v) for k, v in expected.items()}
    ours, theirs = weights(recorded), weights(plain)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    # Recordings were made, and were not all that was done.
    assert 0 < len(taken) < STEPS / 2 + (STEPS if config.generator.warm_up_frames else 0)


def test_losses_of_a_step_outlive_the_next_one(
    config: TemporalConfig, basis: LatentBasis, features: Tensor, index: WindowIndex
) -> None:
    state = with_rates_on_device(new_state(config, basis))
    state.recorder = Recorder(tape)
    losses = [train_step(state, features, index) for _ in range(6)]
    assert len({float(each["critic"]) for each in losses}) == 6


def test_a_tape_refuses_what_a_gpu_could_not_record() -> None:
    for work in (lambda: float(torch.ones(3).sum()), lambda: torch.rand(3), lambda: torch.tensor(1.0)):
        with pytest.raises(RuntimeError, match="neither values nor random numbers"):
            tape(work)


def test_work_is_done_once_then_recorded_then_repeated() -> None:
    done, total = [], torch.zeros(())
    recorder = Recorder(tape)

    def add(x: Tensor) -> Tensor:
        done.append(1)
        return total.add_(x).clone()

    found = [float(recorder.run("add", add, torch.tensor(float(x)))) for x in (1, 2, 3, 4)]
    assert found == [1, 3, 6, 10]
    assert len(done) == 2
    assert float(recorder.run("another key", add, torch.tensor(5.0))) == 15
    assert len(done) == 3


def test_where_a_device_refuses_to_record_all_goes_on_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(work: Callable[[], R]) -> tuple[Callable[[], None], R]:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorder = Recorder(refuse)
    with caplog.at_level(logging.WARNING):
        found = [float(recorder.run("double", lambda x: 2 * x, torch.tensor(float(x)))) for x in (1, 2, 3)]
    assert found == [2, 4, 6]
    (record,) = caplog.records
    assert "slower: operation not permitted" in record.message


def test_workers_that_meet_within_a_step_are_not_recorded_nor_is_a_cpu() -> None:
    assert type(recorder_of("cpu", ALONE)) is OneByOne
    assert type(recorder_of("cuda", Workers(0, 2, torch.clone))) is OneByOne


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", [SMALL, MODERN], ids=["small", "modern"])
def test_a_cuda_graph_does_what_its_operations_do(
    config: TemporalConfig, basis: LatentBasis, w_plus: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    basis, w_plus = basis.to("cuda"), w_plus.to("cuda")
    features, index = represent(config, basis, w_plus), WindowIndex([(0, 120)], config.window_frames)
    plain, recorded = new_state(config, basis, "cuda"), new_state(config, basis, "cuda")
    plain.recorder = OneByOne()
    assert type(recorded.recorder) is Recorder
    for _ in range(STEPS):
        expected, losses = (train_step(state, features, index) for state in (plain, recorded))
        assert {k: float(v) for k, v in losses.items()} == pytest.approx(
            {k: float(v) for k, v in expected.items()}, rel=1e-4, abs=1e-6
        )
    assert not caplog.records  # the device has not refused
    for name, value in weights(recorded).items():
        torch.testing.assert_close(value, weights(plain)[name], rtol=1e-3, atol=1e-5)
