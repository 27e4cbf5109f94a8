"""The search: Optuna proposes trials and stores them; a kill may leave its database ahead of Tune's state."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch
from sqlalchemy.exc import SQLAlchemyError

from svgan_ray.errors import ConfigError
from svgan_ray.experiment_file import load_preset
from svgan_ray.orchestration.tune.optuna_compat import proposed_numbers, study_of
from svgan_ray.orchestration.tune.plan import SETTINGS, SQLITE, StudyPlan
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.spaces import Trial, known_point, suggest_config

__all__ = ["StudySearch", "close_open_trials", "open_study", "sampler", "study_search"]

_STARTUP_TRIALS = 8


class StudySearch(OptunaSearch):
    """An OptunaSearch that accepts repeated reports from an experiment that was killed and restored."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignore a report of a trial that is already finished in the database."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            super().on_trial_result(trial_id, result)

    def restore(self, checkpoint_path: str) -> None:
        """Restore, and close trials that Tune does not know: they were proposed after its last save."""
        super().restore(checkpoint_path)
        close_open_trials(study_of(self), proposed_numbers(self))


def study_search(plan: StudyPlan, storage: optuna.storages.BaseStorage) -> StudySearch:
    """A seeded search that begins with the recipe itself and the presets that are known to be good."""
    several = plan.config.pareto
    return StudySearch(
        space=partial(_propose, base=plan.base),
        metric=list(plan.objectives) if several else plan.objective,
        mode=["min"] * len(plan.objectives) if several else "min",
        study_name=plan.config.study,
        storage=storage,
        sampler=sampler(plan.config.seed),
        points_to_evaluate=_known_points(plan),
    )


def sampler(seed: int) -> optuna.samplers.TPESampler:
    """The sampler; it models parameters that occur in the same trials together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` may change its form
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True
        )


def _known_points(plan: StudyPlan) -> list[dict[str, Any]]:
    """The recipe and the known presets, each once, the recipe first."""
    points = [known_point(plan.base), *(known_point(load_preset(path)) for path in plan.config.enqueue)]
    return [point for number, point in enumerate(points) if point not in points[:number]]


def open_study(plan: StudyPlan, is_begun: bool) -> optuna.Study:
    """The study in its database. Raises ConfigError if it was begun with other settings, or elsewhere."""
    storage, study = plan.search_storage, _stored_study(plan, is_begun)
    settings = json.loads(json.dumps(plan.settings))
    stored = study.user_attrs.get(SETTINGS)
    if stored is None and not is_begun:
        study.set_user_attr(SETTINGS, settings)
    elif stored != settings or not is_begun:
        changed = [name for name in settings if (stored or {}).get(name) != settings[name]] or [
            "its folder is gone"
        ]
        raise ConfigError(
            f"--study {plan.config.study}: {storage} holds a study of that name that does not match "
            f"({', '.join(changed)}); name another --study, or take the settings that it was begun with"
        )
    return study


def _stored_study(plan: StudyPlan, is_begun: bool) -> optuna.Study:
    """The study of this name, with whatever settings, or a new one if it was not begun.

    Raises ConfigError if the database cannot be used, or lacks a study that was begun.
    """
    storage = plan.search_storage
    if storage.startswith(SQLITE):
        Path(storage.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    try:
        if is_begun:
            study = optuna.load_study(storage=storage, study_name=plan.config.study)
        else:
            study = optuna.create_study(
                storage=storage,
                study_name=plan.config.study,
                directions=["minimize"] * len(plan.objectives),
                load_if_exists=True,
            )
    except KeyError as error:
        raise ConfigError(
            f"--study {plan.config.study}: {plan.folder} holds a study of that name that was begun with "
            f"another --search-storage than {storage}; take that one, or name another --study or "
            "--study-folder"
        ) from error
    except (ImportError, SQLAlchemyError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"--search-storage {storage}: cannot be used ({reason}); start the server, or mend the address; "
            "PostgreSQL's driver comes with `pip install '.[cluster]'`"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(plan.objectives))
    return study


def close_open_trials(study: optuna.Study, known: Collection[int] = ()) -> None:
    """Mark trials as failed that nobody will finish; an open trial would bias the search for ever."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in known:
            study.tell(trial.number, state=TrialState.FAIL)


def _propose(trial: Trial, base: TemporalConfig) -> dict[str, Any]:
    return {"temporal": suggest_config(trial, base).to_dict()}
