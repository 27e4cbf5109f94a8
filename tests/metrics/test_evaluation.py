"""The report of a model: real parts from generator to table."""

from __future__ import annotations

import copy
import dataclasses
import math
import time

import pytest
import torch

from svgan_ray.errors import DataError
from svgan_ray.latents.basis import fit_basis
from svgan_ray.latents.denoising import denoised
from svgan_ray.metrics.evaluation import (
    evaluate_motion,
    footage_coefficients,
    generate_coefficients,
    mean_angle,
    score_motion,
)
from svgan_ray.metrics.features import evaluation_basis
from svgan_ray.metrics.scores import fast_power_share
from svgan_ray.temporal.sampling import generate

RATE_HZ = 25.0


@pytest.fixture(scope="module")
def report(footage, samples):
    generated = samples(60, 66.0, seed=5)
    return score_motion(footage(10, seed=1), generated, RATE_HZ, held_out=footage(5, seed=2), angle=0.9)


def test_a_perfect_model_gets_perfect_marks(report):
    for motion in report.frechet:
        assert motion.verdict == "fit"
        assert set(motion.compared) == {*(f"generated at {p} s" for p in (0, 10, 60)), "held-out footage"}
        assert max(motion.compared.values()) < 2.5
    assert report.diversity == pytest.approx(1, abs=0.1) and report.jitter == pytest.approx(1, abs=0.15)
    assert report.memorisation is not None and report.memorisation.verdict == "no sign of copying"


def test_figures_and_rows_say_the_same(report):
    scores, rows = report.scores(), report.rows()
    assert scores["frechet_motion_2s/generated_at_60_s"] in [row.value for row in rows]
    assert scores["angle"] == 0.9 and scores["frechet_motion_5s/is_fit"] == 1.0
    assert all(isinstance(value, float) for value in scores.values())
    two = [row for row in rows if row.measure.startswith("frechet motion, 2 s")]
    assert any(row.compared.startswith("control") for row in two) and two[0].compared.startswith("floor")
    assert all(row.windows == two[0].windows and row.features == row.windows // 10 for row in two)


def test_drift_shows_at_sixty_seconds_alone(footage, samples):
    generated = samples(60, 66.0, seed=5)
    fading = torch.linspace(1, 0.3, generated.shape[1])[None, :, None]
    motion = score_motion(footage(5, seed=1), generated * fading, RATE_HZ).frechet[0]
    assert motion.compared["generated at 0 s"] < 3 < motion.compared["generated at 60 s"] / 3


def test_cheap_enough_for_every_validation(footage, samples):
    real, held_out, generated = footage(10, seed=1), footage(5, seed=2), samples(60, 66.0, seed=5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other busily, and all of that counts as work
    started = time.process_time()  # work, whatever else the machine does
    score_motion(real, generated, RATE_HZ, held_out=held_out)
    torch.set_num_threads(threads)
    assert time.process_time() - started < 4.0


def test_one_minute_gives_figures_that_say_how_far_to_trust_them(footage, samples):
    short = score_motion(footage(1, seed=1), samples(20, 15.0, seed=5), RATE_HZ)
    assert [motion.verdict[:7] for motion in short.frechet] == ["not fit", "not fit"]
    assert set(short.frechet[0].compared) == {"generated at 0 s", "generated at 10 s"}
    assert math.isfinite(short.diversity) and math.isfinite(short.jitter) and short.memorisation is None


def test_bad_input_names_the_shapes(footage, samples):
    generated = samples(4, 10.0, seed=5)
    with pytest.raises(DataError, match=r"equal K"):
        score_motion([torch.zeros(100, 8)], generated, RATE_HZ)
    with pytest.raises(DataError, match="no window"):
        score_motion([torch.zeros(20, 16)], generated, RATE_HZ)


@pytest.fixture(scope="module", params=["basis", "w_plus"])
def model_and_footage(request):
    """An untrained model and W+ of three minutes."""
    from svgan_ray.temporal.model import model_of
    from svgan_ray.temporal.recipes import RECIPES
    from svgan_ray.temporal.training import new_state
    from tests.metrics.conftest import move

    mixing = torch.randn(16, 4 * 12, generator=torch.Generator().manual_seed(1))
    clips = [(move(90, seed) @ mixing).unflatten(-1, (4, 12)) for seed in (1, 2)]
    basis = fit_basis(clips, 16)
    recipe = RECIPES["demo"]()
    has_basis = request.param == "basis"  # without one there are neither moments nor coefficients to denoise
    loss = dataclasses.replace(recipe.loss, moment_matching_weight=float(has_basis))
    config = dataclasses.replace(
        recipe, latent_space=request.param, basis_size=16, denoise=has_basis, loss=loss
    )
    state = new_state(config, basis)
    return model_of(state, basis.mean, "0" * 64), clips


def test_a_model_is_generated_projected_and_scored(model_and_footage):
    model, clips = model_and_footage
    basis = evaluation_basis(model.basis)
    generated = generate_coefficients(model, basis, samples=3, frames=150, seed=4)
    assert generated.shape == (3, 150, 16)
    features = torch.cat(list(generate(model, 3, 150, seed=4)), dim=1)
    torch.testing.assert_close(generated, basis.project(model.decode(features)), atol=1e-4, rtol=1e-4)
    report = evaluate_motion(model, clips, samples=24, seconds=14.0)
    assert report.frechet[0].compared["generated at 10 s"] > 5, (
        "an untrained generator does not move like a person"
    )


def test_the_angle_is_of_windows_as_the_model_was_taught_them(model_and_footage):
    model, _ = model_and_footage
    angle = mean_angle(model)
    assert mean_angle(model) == angle and 0 < angle < math.pi / 2
    deaf = copy.deepcopy(model.generator)
    for layer in deaf.layers:
        layer.from_input.weight[...] = 0  # noise reaches it by the first state alone, which warm-up replaces
    assert mean_angle(dataclasses.replace(model, generator=deaf)) == 0


def test_footage_is_compared_as_the_model_was_taught_it(model_and_footage):
    model, clips = model_and_footage
    basis = evaluation_basis(model.basis)
    noisy = [
        clip + 0.5 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(3)) for clip in clips
    ]
    plain = [basis.project(clip) for clip in noisy]
    expected = denoised(plain, model.frame_rate_hz) if model.config.denoise else plain
    for seen, wanted in zip(footage_coefficients(model, basis, noisy), expected, strict=True):
        assert torch.equal(seen, wanted)
    if model.config.denoise:
        shares = [fast_power_share(x, model.frame_rate_hz) for x in (expected, plain)]
        assert shares[0] < shares[1] / 2
