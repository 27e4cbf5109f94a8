"""Whether the search is worth having: on a surface shaped like the problem it beats chance."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import mean

import optuna

from svgan_ray.orchestration.tune.search import sampler
from svgan_ray.temporal.recipes import TemporalConfig, demo
from svgan_ray.temporal.spaces import known_point, suggest_config

TRIALS, SEEDS = 24, 10
DIVERGED = 1e6
NOISE = 0.15


def surface(config: TemporalConfig) -> float:
    """A distance in floors: valleys in the logarithms, coupled speeds, a region that diverges."""
    generator = math.log10(config.optimiser.generator_learning_rate)
    critic = math.log10(config.optimiser.critic_learning_rate)
    penalty = math.log10(config.loss.critic_penalty_weight)
    relativistic = config.loss.adversarial == "relativistic"
    if critic > -3.1 and penalty < (-0.9 if relativistic else 0.6):
        return DIVERGED
    value = 1.0 + 2.0 * (generator + 3.3) ** 2 + 1.5 * (critic - generator - 0.2) ** 2
    value += 0.8 * (penalty - (-0.2 if relativistic else 1.3)) ** 2 + (0.0 if relativistic else 0.7)
    value += 0.15 * (config.generator.layers - 2) ** 2 + 20.0 / config.generator.width
    value += {(): 1.0, (1,): 0.5, (1, 4): 0.0, (1, 2, 4): 0.1}[config.critic.lags]
    return value + 4.0 / config.batch_size + 20 * abs(config.ema_decay - 0.995)


def best_found(sampler: optuna.samplers.BaseSampler, seed: int) -> float:
    """The true value of the trial that measured best; all searches begin at the same known point."""
    noise = random.Random(seed)
    study = optuna.create_study(sampler=sampler)
    start = known_point(demo())
    start |= {"generator_learning_rate": 5e-5, "critic_learning_rate": 1e-3}
    study.enqueue_trial(start)

    def measure(trial: optuna.Trial) -> float:
        true = surface(suggest_config(trial, demo()))
        trial.set_user_attr("true", true)
        return true if true == DIVERGED else true * math.exp(noise.gauss(0, NOISE))

    study.optimize(measure, n_trials=TRIALS)
    return float(study.best_trial.user_attrs["true"])


def over_seeds(make: Callable[[int], optuna.samplers.BaseSampler]) -> list[float]:
    return [best_found(make(seed), seed) for seed in range(SEEDS)]


def test_trials_that_learn_beat_trials_at_random() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    learning, chance = over_seeds(sampler), over_seeds(lambda seed: optuna.samplers.RandomSampler(seed))
    assert mean(learning) < mean(chance), (learning, chance)
