"""A study with all settings resolved: its data, its identity, its budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from rich.console import Group, RenderableType
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from svgan_ray.config import TuneConfig
from svgan_ray.errors import ConfigError
from svgan_ray.experiment_file import load_preset
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.folders import local_file
from svgan_ray.orchestration.runtime.journal import RunKey
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot, snapshot_rows
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.orchestration.train.estimate import step_time_s
from svgan_ray.orchestration.train.validation import DRIFT, FIDELITY, FRECHET, OBJECTIVE
from svgan_ray.store import LatentStore, Snapshot, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.store.weights import put_weights
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.spaces import SPACES

__all__ = ["SETTINGS", "SQLITE", "StudyPlan", "objective_of", "plan_only", "plan_study"]

SQLITE = "sqlite:///"
SETTINGS = "svgan_ray.settings"
"""The attribute of an Optuna study that holds the settings it was begun with."""
_COMPARED_BY = "compared_by"
_NAME_BYTES = 200


@dataclass(frozen=True)
class StudyPlan:
    """The settings of a study that the driver and every trial need."""

    config: TuneConfig
    store: str
    snapshot: Snapshot
    folder: str
    """The folder that contains the study's own folder."""
    search_storage: str
    model: str
    preset: str
    objective: str = FRECHET
    """The score that its trials are compared by; plans stored by version 0.1.0 have no such field."""

    @property
    def base(self) -> TemporalConfig:
        """The options of the first trial, some of which the other trials change."""
        return self.config.temporal

    @property
    def objectives(self) -> tuple[str, ...]:
        """The scores that the search minimises."""
        return (FIDELITY, DRIFT) if self.config.pareto else (self.objective,)

    @property
    def sequences(self) -> int:
        """The largest number of sequences that a trial may see, for any batch size."""
        return self.base.steps * self.base.batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that must not change between the runs of one study."""
        # Studies of earlier versions, which had only the Frechet distance, do not store their objective.
        says = self.config.pareto and self.objective != FRECHET
        return {
            **({_COMPARED_BY: self.objective} if says else {}),
            "temporal": self.base.to_dict(),
            "snapshot": self.snapshot.digest,
            "trials": self.config.trials,
            "evaluations": self.config.rungs,
            "seed": self.config.seed,
            "objectives": list(self.objectives),
            "study_folder": self.folder,
        }

    @property
    def identity(self) -> str:
        """The name of the study's run and of the journal's actor."""
        return f"tune-{content_id({'study': self.config.study, **self.settings})}"

    @property
    def run(self) -> RunKey:
        """The study's own run."""
        return RunKey(self.config.experiment, f"tune {self.config.study}", "tune", self.identity)

    def trial_run(self, trial_id: str) -> RunKey:
        """A trial's run, a child of the study's."""
        identity = f"{self.identity}/{trial_id}"
        return RunKey(self.config.experiment, f"trial {trial_id}", "trial", identity, self.identity)

    def open_store(self) -> LatentStore:
        """The store that the latents are in."""
        return open_store(self.store)

    def steps_at(self, rung: int, batch_size: int) -> int:
        """The number of steps of a trial at its n-th rung, counted from 1."""
        return math.ceil(self.sequences * rung / self.config.rungs / batch_size)

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False)
        snapshot_rows(self.snapshot, table)
        table.add_row("study", f"{self.config.study}, {self.config.trials} trials, in {self.folder}")
        budget = f"{self.sequences:,} sequences, measured {self.config.rungs} times"
        stopping = "none stops early" if self.config.pareto else "the worse half stops early"
        table.add_row("trial", f"{budget}; {stopping}")
        table.add_row("objectives", f"{' and '.join(self.objectives)}, smaller is better")
        table.add_row("best trial", f"model {self.model}, preset {self.preset}")
        return table


def plan_study(config: TuneConfig, put: bool = True) -> StudyPlan:
    """Resolve paths and snapshot; `put` stores snapshot and generator if they are new."""
    if "/" in config.study or config.study.startswith(".") or len(config.study.encode()) > _NAME_BYTES:
        raise ConfigError(
            f"--study {config.study!r}: expected a name of up to {_NAME_BYTES} bytes without a slash, which "
            "does not begin with a dot: it is the name of a folder"
        )
    store = open_store(durable(config.store, "--store"))
    generator_folder, _ = folders_of(config.weights)
    generator_sha256 = put_weights(store, generator_folder) if put else weights_hash(generator_folder)
    for path in config.enqueue:
        _require_family(path, config)
    search_storage = _database(config.search_storage)
    return StudyPlan(
        config,
        store.uri,
        resolve_snapshot(store, config, generator_sha256, put),
        durable(config.study_folder, "--study-folder"),
        search_storage,
        durable(config.model, "--model"),
        str(local_file(config.out, "--out")),
        _begun_objective(config.study, search_storage),
    )


def objective_of(study: optuna.Study) -> str:
    """The score that a study's trials are compared by, from the settings it was begun with."""
    settings = study.user_attrs.get(SETTINGS)
    if settings is None:
        return OBJECTIVE
    if _COMPARED_BY in settings:
        return str(settings[_COMPARED_BY])
    return OBJECTIVE if settings["objectives"] == [OBJECTIVE] else FRECHET


def _begun_objective(name: str, storage: str) -> str:
    """The objective of the study of this name, if it was begun; `open_study` reports what is wrong."""
    if storage.startswith(SQLITE) and not Path(storage.removeprefix(SQLITE)).exists():
        return OBJECTIVE
    try:
        return objective_of(optuna.load_study(study_name=name, storage=storage))
    except (KeyError, ImportError, SQLAlchemyError):
        return OBJECTIVE


def _require_family(path: str, config: TuneConfig) -> None:
    """Raise ConfigError if a preset to begin with is of another family than the study."""
    found, expected = load_preset(path).family, config.temporal.family
    if found != expected:
        raise ConfigError(
            f"--enqueue {path}: expected a preset of the family {expected!r}, which this study searches, got "
            f"{found!r}; leave it out, or study that family"
        )


def _database(url: str) -> str:
    """The database's URL; one of SQLite names its file in full."""
    if urlsplit(url).password:
        raise ConfigError(
            "--search-storage: holds a password, which would appear in logs and in the run's settings; "
            "put it in a file and add ?passfile=FILE"
        )
    if not url.startswith(SQLITE):
        return url
    return SQLITE + durable(url.removeprefix(SQLITE), "--search-storage")


def plan_only(config: TuneConfig) -> RenderableType:
    """The plan, the search space and the cost, estimated from a few steps; nothing is stored."""
    plan = plan_study(config, put=False)
    space = Table("option", "values", box=None)
    for name, values in SPACES[plan.base.family].items():
        space.add_row(name, values)
    step_s = step_time_s(plan.base, plan.snapshot.num_ws, plan.snapshot.w_dim)
    total_s = step_s * plan.base.steps * config.trials
    saved = "" if config.pareto else ", less what early stopping saves"
    cost = (
        f"a step takes {1000 * step_s:.0f} ms here: at most {total_s / 60:.0f} minutes, "
        f"one trial at a time{saved}"
    )
    return Group(plan, space, cost)
