"""The search space of a study: functions that ask a trial for values and put them into a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from svgan_ray.temporal.recipes import TemporalConfig

__all__ = ["SPACES", "Trial", "known_point", "suggest_config"]


class Trial(Protocol):
    """An object that proposes values, such as a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


LEARNING_RATES = (5e-5, 2e-3)
PENALTIES = {"wasserstein": (1.0, 100.0), "relativistic": (0.02, 20.0)}
LAYERS = (1, 4)
WIDTHS = (32, 64, 128, 256)
LAGS = ("none", "1", "1 4", "1 2 4")
BATCH_SIZES = (16, 32, 64)
EMA_DECAYS = (0.99, 0.995, 0.999)
FLOW_LEARNING_RATES = (3e-4, 5e-3)
FLOW_WIDTHS = (64, 96, 128, 192)
FLOW_BLOCKS = (5, 10, 15)


def _either(choices: Sequence[Any]) -> str:
    return ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"


_GAN_SPACE = {
    "generator_learning_rate, critic_learning_rate": "{:g} to {:g}, log".format(*LEARNING_RATES),
    "adversarial": _either(tuple(PENALTIES)),
    **{f"{loss}_penalty": "{:g} to {:g}, log, with that loss".format(*PENALTIES[loss]) for loss in PENALTIES},
    "layers": "{} to {}".format(*LAYERS),
    "width": _either(WIDTHS),
    "lags": _either(LAGS),
    "batch_size": _either(BATCH_SIZES),
    "ema_decay": _either(EMA_DECAYS),
}
_FLOW_SPACE = {
    "flow_learning_rate": "{:g} to {:g}, log".format(*FLOW_LEARNING_RATES),
    "flow_width": _either(FLOW_WIDTHS),
    "flow_blocks": _either(FLOW_BLOCKS),
    "batch_size": _either(BATCH_SIZES),
    "ema_decay": _either(EMA_DECAYS),
}
SPACES = {"gan": _GAN_SPACE, "flow": _FLOW_SPACE}
"""For each family, the parameters that `suggest_config` asks for, with their ranges in words."""


def suggest_config(trial: Trial, base: TemporalConfig) -> TemporalConfig:
    """The recipe with newly proposed values for what matters most in its family.

    For a GAN these are learning rates, loss, layer sizes, and the differences that the critic sees. Data and
    window stay as they are, so that trials can be compared.
    """
    suggested = _suggest_flow(trial, base) if base.family == "flow" else _suggest_gan(trial, base)
    return dataclasses.replace(
        suggested,
        batch_size=trial.suggest_categorical("batch_size", BATCH_SIZES),
        ema_decay=trial.suggest_categorical("ema_decay", EMA_DECAYS),
    )


def _suggest_flow(trial: Trial, base: TemporalConfig) -> TemporalConfig:
    flow = dataclasses.replace(
        base.flow,
        learning_rate=trial.suggest_float("flow_learning_rate", *FLOW_LEARNING_RATES, log=True),
        width=trial.suggest_categorical("flow_width", FLOW_WIDTHS),
        blocks=trial.suggest_categorical("flow_blocks", FLOW_BLOCKS),
    )
    return dataclasses.replace(base, flow=flow)


def _suggest_gan(trial: Trial, base: TemporalConfig) -> TemporalConfig:
    low, high = LEARNING_RATES
    optimiser = dataclasses.replace(
        base.optimiser,
        generator_learning_rate=trial.suggest_float("generator_learning_rate", low, high, log=True),
        critic_learning_rate=trial.suggest_float("critic_learning_rate", low, high, log=True),
    )
    adversarial = trial.suggest_categorical("adversarial", tuple(PENALTIES))
    penalty = trial.suggest_float(f"{adversarial}_penalty", *PENALTIES[adversarial], log=True)
    generator = dataclasses.replace(
        base.generator,
        layers=trial.suggest_int("layers", *LAYERS),
        width=trial.suggest_categorical("width", WIDTHS),
    )
    lags = trial.suggest_categorical("lags", LAGS)
    return dataclasses.replace(
        base,
        optimiser=optimiser,
        loss=dataclasses.replace(base.loss, adversarial=adversarial, critic_penalty_weight=penalty),
        generator=generator,
        critic=dataclasses.replace(base.critic, lags=_lags(lags)),
    )


def known_point(base: TemporalConfig) -> dict[str, Any]:
    """The values for which `suggest_config` returns the recipe itself, or the nearest recipe in the space."""
    shared = {
        "batch_size": _nearest(base.batch_size, BATCH_SIZES),
        "ema_decay": _nearest(base.ema_decay, EMA_DECAYS),
    }
    if base.family == "flow":
        return {
            "flow_learning_rate": _clamped(base.flow.learning_rate, *FLOW_LEARNING_RATES),
            "flow_width": _nearest(base.flow.width, FLOW_WIDTHS),
            "flow_blocks": _nearest(base.flow.blocks, FLOW_BLOCKS),
            **shared,
        }
    low, high = PENALTIES[base.loss.adversarial]
    return {
        "generator_learning_rate": _clamped(base.optimiser.generator_learning_rate, *LEARNING_RATES),
        "critic_learning_rate": _clamped(base.optimiser.critic_learning_rate, *LEARNING_RATES),
        "adversarial": base.loss.adversarial,
        f"{base.loss.adversarial}_penalty": _clamped(base.loss.critic_penalty_weight, low, high),
        "layers": round(_clamped(base.generator.layers, *LAYERS)),
        "width": _nearest(base.generator.width, WIDTHS),
        "lags": min(LAGS, key=lambda lags: len(set(_lags(lags)) ^ set(base.critic.lags))),
        **shared,
    }


def _lags(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(map(int, text.split()))


def _clamped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _nearest(value: float, choices: Sequence[Any]) -> Any:
    return min(choices, key=lambda choice: abs(choice - value))
