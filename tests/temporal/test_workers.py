"""Two processes over gloo against one alone: the same training to the last digits."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis, fit_basis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.training import TrainingState, new_state, represent, train_step
from svgan_ray.temporal.workers import ALONE, Workers

from .conftest import CONFIGS

WORLD, STEPS = 2, 50


def train(name: str, w_plus: Tensor, workers: Workers, dtype: torch.dtype, steps: int) -> TrainingState:
    config = dataclasses.replace(CONFIGS[name], batch_size=7)  # slices of three and of four
    basis: LatentBasis = fit_basis([w_plus], 4).to(dtype=dtype)
    features = represent(config, basis, w_plus.to(dtype))
    index = WindowIndex([(0, 60), (60, 120)], config.window_frames)
    state = new_state(config, basis, workers=workers, dtype=dtype)
    for _ in range(steps):
        train_step(state, features, index)
    return state


def outcome(name: str, w_plus: Tensor, workers: Workers) -> dict[str, Tensor]:
    """All that training has changed after 50 steps in float64, and fp32's gradients of the first step."""
    state = train(name, w_plus, workers, torch.float64, STEPS)
    result = {f"{o}.{k}": v for o, m in state.modules().items() for k, v in m.state_dict().items()}
    single = train(name, w_plus, workers, torch.float32, 1)
    for owner, module in (("generator", single.generator), ("critic", single.critic)):
        gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        result[f"gradient.{owner}"] = torch.cat(gradients)
    return {key: value.contiguous() for key, value in result.items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD
    )

    def all_reduce(value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    w_plus = load_file(f"{folder}/w_plus.safetensors")["w_plus"]
    for name in CONFIGS:
        save_file(outcome(name, w_plus, Workers(rank, WORLD, all_reduce)), f"{folder}/{name}-{rank}")
    torch.distributed.barrier()
    os._exit(0)  # what torch does with its threads at the end of a process has aborted one on a busy machine


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, w_plus: Tensor) -> Path:
    """What each of two processes comes to, for every kind of configuration."""
    folder = tmp_path_factory.mktemp("workers")
    save_file({"w_plus": w_plus}, folder / "w_plus.safetensors")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=WORLD)
    return folder


@pytest.mark.parametrize("name", list(CONFIGS))
def test_two_processes_agree_with_one(together: Path, name: str, w_plus: Tensor) -> None:
    alone = outcome(name, w_plus, ALONE)
    for rank in range(WORLD):
        theirs = load_file(together / f"{name}-{rank}")
        assert theirs.keys() == alone.keys()
        for key, value in alone.items():
            if key.startswith("gradient."):
                assert float((theirs[key] - value).norm()) <= 1e-5 * float(value.norm()), key
            else:
                torch.testing.assert_close(theirs[key], value, rtol=0, atol=1e-9)
