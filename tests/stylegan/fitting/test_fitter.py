"""Steps of a fit: what moves, what stays, and that workers and pieces of a batch change nothing."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch
from torch import Tensor

from svgan_ray.errors import ConfigError, DataError, DivergenceError
from svgan_ray.stylegan.fitting import (
    Batch,
    EncoderFeatures,
    Fitter,
    FittingConfig,
    Footage,
    draw_frames,
    fixed_regions,
)
from svgan_ray.temporal.workers import ALONE, Workers

from .conftest import drawn_crops, networks

EVERYTHING = FittingConfig(
    steps=20, batch=6, warmup_steps=2, energy_weight=0.1, perceptual_weight=0.3, adversarial_weight=0.1
)
PIVOTAL = FittingConfig("generator", steps=20, batch=6, warmup_steps=2, locality_batch=3)
STATE = dict[str, Tensor]


def state_of(fitter: Fitter) -> STATE:
    return {f"{o}.{k}": v.clone() for o, m in fitter.modules().items() for k, v in m.state_dict().items()}


def new_fitter(config: FittingConfig, workers: Workers = ALONE, dtype: torch.dtype = torch.float32) -> Fitter:
    perceptual = EncoderFeatures(networks(dtype)[1]) if config.perceptual_weight else None
    return Fitter(*networks(dtype), config, workers=workers, perceptual=perceptual)


def slice_of(fitter: Fitter, step: int, crops: Tensor, w_plus: Tensor | None) -> Batch:
    config = fitter.config
    frames = draw_frames([torch.arange(len(crops))], config.batch, config.seed, step)
    own = frames[fitter.workers.slice(config.batch)]
    return Batch(crops[own], fixed_regions(len(own)), None if w_plus is None else w_plus[own])


def pivots(crops: Tensor, dtype: torch.dtype) -> Tensor:
    generator, encoder = networks(dtype)
    with torch.no_grad():
        return encoder.eval().encode(crops.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1, generator.synthesis)


def run(config: FittingConfig, dtype: torch.dtype = torch.float64) -> Fitter:
    fitter, crops = new_fitter(config, dtype=dtype), drawn_crops(40)
    train(fitter, crops, pivots(crops, dtype))
    return fitter


def train(fitter: Fitter, crops: Tensor, w_plus: Tensor) -> None:
    for step in range(fitter.config.steps):
        fitter.train_step(slice_of(fitter, step, crops, w_plus))


class Meeting:
    """Two threads that wait for each other's tensor and add them up."""

    def __init__(self) -> None:
        self.barrier, self.values = threading.Barrier(2, timeout=60), [torch.zeros(0)] * 2

    def workers(self, rank: int) -> Workers:
        def all_reduce(value: Tensor) -> Tensor:
            self.values[rank] = value
            self.barrier.wait()
            total = self.values[0] + self.values[1]
            self.barrier.wait()
            return total

        return Workers(rank, 2, all_reduce)


@pytest.mark.parametrize("config", [EVERYTHING, PIVOTAL], ids=["both", "generator"])
def test_two_workers_agree_with_one(config: FittingConfig) -> None:
    config = dataclasses.replace(config, batch=7)  # slices of three and of four
    meeting, crops = Meeting(), drawn_crops(40)
    w_plus = pivots(crops, torch.float64)
    fitters = [new_fitter(config, meeting.workers(rank), torch.float64) for rank in range(2)]
    threads = [threading.Thread(target=train, args=(fitter, crops, w_plus)) for fitter in fitters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = state_of(run(config))
    before = state_of(new_fitter(config, dtype=torch.float64))
    assert any((alone[name] - before[name]).abs().max() > 0.01 for name in alone)
    for fitter in fitters:
        for name, tensor in state_of(fitter).items():
            torch.testing.assert_close(tensor, alone[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [EVERYTHING, PIVOTAL], ids=["both", "generator"])
def test_pieces_of_a_batch_change_nothing(config: FittingConfig) -> None:
    config = dataclasses.replace(config, steps=3)
    whole, pieces = (state_of(run(dataclasses.replace(config, micro_batch=n))) for n in (6, 2))
    for name in whole:
        torch.testing.assert_close(pieces[name], whole[name], rtol=1e-9, atol=1e-9)


def test_both_learns_the_footage(footage: Footage) -> None:
    config = FittingConfig(steps=50, batch=8, warmup_steps=5, synthesis_rate=2e-2, encoder_rate=4e-3)
    fitter = new_fitter(config)
    losses = [
        fitter.train_step(slice_of(fitter, step, footage.crops, None))["reconstruction"] for step in range(50)
    ]
    assert losses[-1] < 0.35 * losses[0]
    pictures, images = fitter.reconstruct(footage.batch(torch.arange(8)))
    assert pictures.shape == images.shape == (8, 3, 32, 32)
    of_mean_picture = (images - images.mean(dim=0)).square().mean()
    assert (pictures - images).square().mean() < 0.5 * of_mean_picture


@pytest.mark.parametrize("config", [EVERYTHING, PIVOTAL], ids=["both", "generator"])
def test_only_what_should_moves(config: FittingConfig) -> None:
    generator, encoder = networks()
    fitter = run(dataclasses.replace(config, steps=3), dtype=torch.float32)

    def moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
        theirs = after.state_dict()
        return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, theirs[name])}

    assert moved(generator.mapping, fitter.generator.mapping) == set()
    synthesis = {name for name, _ in generator.synthesis.named_parameters()}
    assert moved(generator.synthesis, fitter.generator.synthesis) == synthesis
    trained = {name for name, _ in encoder.named_parameters()} if config.what == "both" else set()
    assert moved(encoder, fitter.encoder) == trained


def test_locality_holds_other_pictures(footage: Footage) -> None:
    """Tuned to one person, the pictures of other latents stay, and do not without the term."""
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(9))

    def errors(weight: float) -> tuple[float, float]:
        config = FittingConfig(
            "generator", steps=40, batch=6, warmup_steps=4, locality_weight=weight, locality_batch=6
        )
        fitter, old = run(config, dtype=torch.float32), networks()[0]
        w_plus = old.mapping(z)
        crops = drawn_crops(40)
        batch = Batch(crops, fixed_regions(40), pivots(crops, torch.float32))
        pictures, images = fitter.reconstruct(batch)
        others = fitter.generator.synthesis(w_plus) - old.synthesis(w_plus)
        return (pictures - images).square().mean().item(), others.square().mean().item()

    (own_with, others_with), (own_without, others_without) = errors(2.0), errors(0.0)
    start = error_before()
    assert own_with < 0.6 * start and own_without < 0.6 * start
    assert others_with < 0.5 * others_without


def error_before() -> float:
    crops = drawn_crops(40)
    batch = Batch(crops, fixed_regions(40), pivots(crops, torch.float32))
    pictures, images = new_fitter(PIVOTAL).reconstruct(batch)
    return (pictures - images).square().mean().item()


def test_a_seed_gives_one_fit() -> None:
    first, second = (
        state_of(run(dataclasses.replace(EVERYTHING, steps=3), dtype=torch.float32)) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_does_not_fit_is_refused() -> None:
    fitter = new_fitter(FittingConfig(batch=2))
    with pytest.raises(
        DataError, match=r"expected crops uint8 \[2, 32, 32, 3\], got torch.uint8 \[2, 16, 16"
    ):
        fitter.train_step(Batch(torch.zeros(2, 16, 16, 3, dtype=torch.uint8), fixed_regions(2)))
    with pytest.raises(DataError, match="needs the stored latents"):
        new_fitter(FittingConfig("generator", batch=2)).train_step(Batch(drawn_crops(2), fixed_regions(2)))
    with pytest.raises(ConfigError, match="for each of 3 workers, got 2"):
        Fitter(*networks(), FittingConfig(batch=2), workers=Workers(0, 3, lambda value: value))
    with pytest.raises(ConfigError, match="no perceptual distance was given"):
        Fitter(*networks(), FittingConfig(perceptual_weight=1))
    with torch.no_grad():
        fitter.generator.synthesis.b4.const.fill_(torch.nan)
    with pytest.raises(DivergenceError, match="expected finite losses at step 0"):
        fitter.train_step(Batch(drawn_crops(2), fixed_regions(2)))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("what", "encoder", "expected one of both, generator, got 'encoder'"),
        ("precision", "float16", "expected one of auto, float32, bfloat16"),
        ("steps", 0, "steps: expected a whole number, 1 or more, got 0"),
        ("locality_weight", -1.0, "locality_weight: expected a number, 0 or more"),
        ("eye_weight", float("nan"), "eye_weight: expected a number, 0 or more, got nan"),
        ("encoder_rate", 0.0, "encoder_rate: expected a number, above 0"),
    ],
)
def test_settings_are_checked(field: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FittingConfig(**{field: value})


def test_rates_rise_and_fall_to_zero() -> None:
    config = FittingConfig(steps=100, warmup_steps=10)
    shares = [config.rate_share(step) for step in range(101)]
    assert shares[0] == pytest.approx(0.1) and max(shares) == shares[9]
    assert shares[50] == pytest.approx(0.5) and shares[100] == pytest.approx(0)


def test_frames_are_drawn_evenly() -> None:
    groups = [torch.arange(10), torch.arange(100, 130)]
    drawn = torch.cat([draw_frames(groups, 6, 0, step) for step in range(10)])
    assert (drawn < 100).sum() == 30  # three times each of the ten
    assert all((drawn == frame).sum() == 3 for frame in range(10))
    assert sorted(drawn[drawn >= 100].tolist()) == list(range(100, 130))
    first, third = drawn[drawn < 100][:10], drawn[drawn < 100][20:]
    assert not torch.equal(first, third)
    assert torch.equal(draw_frames(groups, 6, 0, 7), drawn[42:48])
