"""The private parts of Ray's OptunaSearch that a study needs; see `tests/test_compat.py`."""

from __future__ import annotations

from typing import cast

import optuna
from ray.tune.search.optuna import OptunaSearch

__all__ = ["proposed_numbers", "study_of"]


def proposed_numbers(search: OptunaSearch) -> set[int]:
    """Optuna's numbers of the trials that a search has proposed, including those before it was restored.

    Only the search's checkpoint holds them; the database also holds trials that were proposed after that
    checkpoint.
    """
    return {trial.number for trial in search._ot_trials.values()}


def study_of(search: OptunaSearch) -> optuna.Study:
    """The study of a search, over the same connection to its database."""
    return cast(optuna.Study, search._ot_study)
