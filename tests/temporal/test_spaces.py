"""The search space contains every recipe, and everything that it proposes can be trained."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from svgan_ray.temporal.recipes import RECIPES, demo
from svgan_ray.temporal.spaces import PENALTIES, known_point, suggest_config


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_a_point_of_the_space(recipe: str) -> None:
    base = RECIPES[recipe]()

    assert suggest_config(FixedTrial(known_point(base)), base) == base


class Drawn:
    """A trial whose values hypothesis draws."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.names: list[str] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.names.append(name)
        return self.draw(st.floats(low, high), label=name)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.names.append(name)
        return self.draw(st.integers(low, high), label=name)

    def suggest_categorical(self, name, choices):  # type: ignore[no-untyped-def]
        self.names.append(name)
        return self.draw(st.sampled_from(choices), label=name)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_every_proposal_keeps_data_and_window_and_asks_for_one_penalty(data: st.DataObject) -> None:
    trial, base = Drawn(data), demo()

    config = suggest_config(trial, base)

    assert (config.window_frames, config.basis_size, config.frame_rate_hz, config.steps) == (
        base.window_frames,
        base.basis_size,
        base.frame_rate_hz,
        base.steps,
    )
    assert [n for n in trial.names if n.endswith("_penalty")] == [f"{config.loss.adversarial}_penalty"]
    low, high = PENALTIES[config.loss.adversarial]
    assert low <= config.loss.critic_penalty_weight <= high
    assert set(known_point(config)) == set(trial.names)
