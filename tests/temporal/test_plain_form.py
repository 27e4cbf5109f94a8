"""A training step against the same losses written plainly: the benchmark's baseline, in double precision."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from svgan_ray.temporal.training import train_step

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "temporal.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("temporal_benchmark", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gradients_of_a_step_equal_the_plain_form(benchmark: ModuleType) -> None:
    state, plain, features, index = benchmark.both_forms("cpu", torch.float64)
    losses = train_step(state, features, index)
    plain(features, index)
    assert {"critic", "gradient_penalty", "generator", "angle_penalty"} == losses.keys()
    assert float(losses["angle_penalty"]) > 0, "the penalty must be at work to be compared"
    assert benchmark.largest_difference(state, plain) < 1e-9
