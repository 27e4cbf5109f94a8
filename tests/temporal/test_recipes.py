"""`paper()` against the published method as docs/method.md states it, number by number."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from svgan_ray.errors import ConfigError
from svgan_ray.ranges import NumericField, Range, numeric_fields
from svgan_ray.temporal import recipes
from svgan_ray.temporal.critic import SLOPE, Critic
from svgan_ray.temporal.generator import PixelNorm, StyleBranches, TemporalGenerator
from svgan_ray.temporal.recipes import RECIPES, LossOptions, OptimiserOptions, TemporalConfig, demo, paper
from svgan_ray.temporal.statistics import CHANGE_DECAY
from svgan_ray.temporal.workers import GlobalBatchNorm

NUM_WS, W_DIM = 18, 512


def linear_sizes(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def kinds(module: nn.Sequential) -> list[type[nn.Module]]:
    return [type(part) for part in module]


def test_training_is_as_published() -> None:
    config = paper()
    assert (config.latent_space, config.batch_size, config.steps) == ("w_plus", 16, 100_000)
    assert config.window_frames == round(config.frame_rate_hz) == 25, "one second"
    assert config.ema_decay == CHANGE_DECAY == 0.995
    assert config.optimiser == OptimiserOptions(1e-4, 1e-4, betas=(0.5, 0.999), cool_down=0.0)
    assert config.loss == LossOptions("wasserstein", 50.0, 1, 100.0, 1, moment_matching_weight=0.0)
    assert not config.denoise


def test_generator_is_as_published() -> None:
    options = paper().generator
    assert (options.noise_dim, options.slowest_noise_frames, options.warm_up_frames) == (32, 0.0, 0)
    with torch.device("meta"):
        generator = TemporalGenerator(options, NUM_WS * W_DIM, styles=NUM_WS)

    assert linear_sizes(generator.initial) == [(32, 64), (64, 64), (64, 96), (96, 96)]
    assert kinds(generator.initial) == [nn.Linear, nn.LeakyReLU, GlobalBatchNorm] * 3 + [nn.Linear]
    norms = [part for part in generator.initial if isinstance(part, GlobalBatchNorm)]
    assert all(norm.weight is None for norm in norms), "not affine"
    assert [(layer.from_input.in_features, layer.from_input.out_features) for layer in generator.layers] == [
        (32, 3 * 32)
    ] * 4
    assert generator.top_is_noise, "layer 4 starts from s_0 itself"
    batch_norm, pixel_norm, trunk, trunk_norm, branches = generator.output
    assert isinstance(batch_norm, GlobalBatchNorm) and isinstance(pixel_norm, PixelNorm)
    assert linear_sizes(trunk) == [(32, 64), (64, 128), (128, 256), (256, 512)]
    assert isinstance(trunk_norm, GlobalBatchNorm) and isinstance(branches, StyleBranches)
    assert branches.weight.shape == (NUM_WS, 512, W_DIM)
    assert isinstance(branches.norm, GlobalBatchNorm) and branches.norm.weight is not None
    slopes = {m.negative_slope for m in generator.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {SLOPE} == {0.01}


def test_critic_is_as_published() -> None:
    options = paper().critic
    assert options.lags == options.orders == () and not options.pooled
    with torch.device("meta"):
        critic = Critic(options, NUM_WS * W_DIM, paper().window_frames)

    widths = [9216, 4608, 2304, 1152, 576, 288, 32]
    assert linear_sizes(critic.frame) == list(itertools.pairwise(widths))
    assert kinds(critic.frame) == [nn.Linear, nn.LeakyReLU] * 6
    convolutions = [part for part in critic.time if isinstance(part, nn.Conv1d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(32, 64), (64, 128)]
    assert all((c.kernel_size, c.stride, c.padding) == ((5,), (2,), (2,)) for c in convolutions)
    assert linear_sizes(critic.last) == [(128 * 7, 1)], "flattened: 25 frames become 13, then 7"


PARTS = [None, "generator", "critic", "loss", "optimiser"]


def fields_of(part: str | None) -> tuple[NumericField, ...]:
    return numeric_fields(type(demo() if part is None else getattr(demo(), part)))


NUMERIC = [(part, numeric) for part in PARTS for numeric in fields_of(part)]


def with_value(part: str | None, name: str, value: Any) -> TemporalConfig:
    config = demo()
    if part is None:
        return dataclasses.replace(config, **{name: value})
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **{name: value})})


def wrong_numbers(field: NumericField) -> st.SearchStrategy[float]:
    """Numbers outside of a field's range, or of the wrong kind."""
    assert isinstance(field.range, Range)
    kinds = [st.just(math.nan), st.just(math.inf), st.just(-math.inf)]
    if field.range.least > -math.inf:
        kinds += [st.integers(max_value=math.ceil(field.range.least) - 1)]
        kinds += [st.floats(max_value=field.range.least, exclude_max=field.range.holds_least)]
    if field.range.most < math.inf:
        kinds += [st.integers(min_value=math.floor(field.range.most) + 1)]
    if field.whole:
        kinds += [st.floats().filter(lambda value: not value.is_integer())]
    return st.one_of(kinds)


def test_every_number_has_a_range() -> None:
    assert {"steps", "betas", "critic_penalty_interval"} <= {field.name for _, field in NUMERIC}
    assert [f"{part}.{field.name}" for part, field in NUMERIC if field.range is None] == []


def test_every_field_has_its_meaning_below_it() -> None:
    tree = ast.parse(inspect.getsource(recipes))
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for statement, after in itertools.pairwise(cls.body):
            if isinstance(statement, ast.AnnAssign) and "field(" not in ast.unparse(statement):
                assert isinstance(after, ast.Expr), f"{cls.name}: {ast.unparse(statement)}"


@pytest.mark.parametrize(("part", "field"), NUMERIC, ids=lambda value: getattr(value, "name", value))
@settings(max_examples=30)
@given(data=st.data())
def test_wrong_numbers_are_refused_by_name(part: str | None, field: NumericField, data: Any) -> None:
    wrong = data.draw(wrong_numbers(field))
    old = getattr(demo() if part is None else getattr(demo(), part), field.name)
    value = (wrong, *old[1:]) if isinstance(old, tuple) else wrong
    name = field.name if part is None else f"{part}.{field.name}"
    with pytest.raises(ConfigError) as caught:
        with_value(part, field.name, value)
    assert str(caught.value).startswith(f"{name}: expected a ")
    assert f", {field.range}, got {value!r}" in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_survive_the_way_through_json(recipe: Any) -> None:
    assert TemporalConfig.from_dict(recipe().to_dict()) == recipe()
