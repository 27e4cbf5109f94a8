"""The program that makes the demo weights: it learns, and a resumed run equals one that was not stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from svgan_ray.demo import pretrain
from svgan_ray.demo.factors import NUM_FACTORS, draw_factors


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "SAVE_EVERY_STEPS", 2)
    for stage in (pretrain.GeneratorStage, pretrain.ReaderStage, pretrain.EncoderStage):
        monkeypatch.setattr(stage, "batch", 2)


@pytest.mark.parametrize("name", ["generator", "reader"])
def test_a_resumed_run_equals_one_that_was_not_stopped(name: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for work in (whole, parts):
        work.mkdir()
    pretrain.train(pretrain.make_stage(name, 4, whole, torch.device("cpu")), whole)

    stopped = pretrain.make_stage(name, 4, parts, torch.device("cpu"))
    losses = 0

    def stop_at_third_loss(*arguments: object) -> torch.Tensor:
        nonlocal losses
        losses += 1
        if losses == 3:
            raise KeyboardInterrupt
        return type(stopped).loss(stopped, *arguments)  # type: ignore[arg-type]

    stopped.loss = stop_at_third_loss  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(stopped, parts)
    assert pretrain.saved_steps(parts / f"{name}.safetensors") == (2, 4)
    pretrain.train(pretrain.make_stage(name, 4, parts, torch.device("cpu")), parts)

    expected, got = (pretrain.load_network(work / f"{name}.safetensors") for work in (whole, parts))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_the_encoder_learns_towards_the_latents_then_through_the_generator(tmp_path: Path) -> None:
    pretrain.train(pretrain.make_stage("generator", 2, tmp_path, torch.device("cpu")), tmp_path)
    stage = pretrain.make_stage("encoder", 10, tmp_path, torch.device("cpu"))
    assert isinstance(stage, pretrain.EncoderStage)
    draws = torch.Generator().manual_seed(0)
    factors = draw_factors(2, draws)
    trained = {}
    for step in (0, 3, 9):
        loss = stage.loss(step, factors, draws)
        loss.backward()
        assert torch.isfinite(loss)
        assert stage.generator_loaded == (step > 0)
        trained[step] = {name for name, p in stage.network.named_parameters() if p.grad is not None}
        stage.network.zero_grad()
    assert trained[0] == trained[3] < trained[9]  # the differences of the styles come last
    assert trained[9] == {name for name, _ in stage.network.named_parameters()}


def test_filmed_portraits_differ_a_little_from_exact_ones() -> None:
    draws = torch.Generator().manual_seed(0)
    factors = torch.zeros(2, NUM_FACTORS)
    difference = (pretrain.as_filmed(factors, draws) - pretrain.render_chunked(factors, 128)).abs().mean()
    assert 0.001 < difference < 0.1
