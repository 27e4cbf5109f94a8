"""A study with everything resolved: its data, what identifies it, its budget."""

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
from svgan_ray.temporal.spaces import SPACE

__all__ = ["SETTINGS", "SQLITE", "StudyPlan", "objective_of", "plan_only", "plan_study"]

SQLITE = "sqlite:///"
SETTINGS = "svgan_ray.settings"
"""The attribute of an Optuna study that holds what it was begun with."""
_COMPARED_BY = "compared_by"
_NAME_BYTES = 200


@dataclass(frozen=True)
class StudyPlan:
    """What the driver and every trial know of a study."""

    config: TuneConfig
    store: str
    snapshot: Snapshot
    folder: str
    """Holds the study's own folder."""
    search_storage: str
    model: str
    preset: str
    objective: str = FRECHET
    """What its trials are compared by; plans that version 0.1.0 stored have no such field."""

    @property
    def base(self) -> TemporalConfig:
        """What the trials share, and the first one is."""
        return self.config.temporal

    @property
    def objectives(self) -> tuple[str, ...]:
        """What the search makes small."""
        return (FIDELITY, DRIFT) if self.config.pareto else (self.objective,)

    @property
    def sequences(self) -> int:
        """What every trial may see at most, whatever its batch."""
        return self.base.steps * self.base.batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """What may not change between the runs of one study."""
        # Studies begun while Frechet distances were the only ones do not say what they are compared by.
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
        """What names the study's run and the journal's actor."""
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
        """Steps of a trial by its n-th rung, counted from 1."""
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
    """Resolve paths and snapshot; `put` stores snapshot and generator where they are new."""
    if "/" in config.study or config.study.startswith(".") or len(config.study.encode()) > _NAME_BYTES:
        raise ConfigError(
            f"--study {config.study!r}: expected a name of up to {_NAME_BYTES} bytes without a slash, which "
            "begins with no dot: a folder is called so"
        )
    store = open_store(durable(config.store, "--store"))
    generator_folder, _ = folders_of(config.weights)
    generator_sha256 = put_weights(store, generator_folder) if put else weights_hash(generator_folder)
    for path in config.enqueue:
        load_preset(path)
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
    """What a study's trials are compared by, from what it was begun with."""
    settings = study.user_attrs.get(SETTINGS)
    if settings is None:
        return OBJECTIVE
    if _COMPARED_BY in settings:
        return str(settings[_COMPARED_BY])
    return OBJECTIVE if settings["objectives"] == [OBJECTIVE] else FRECHET


def _begun_objective(name: str, storage: str) -> str:
    """That of the study of this name where it was begun; `open_study` tells what is wrong."""
    if storage.startswith(SQLITE) and not Path(storage.removeprefix(SQLITE)).exists():
        return OBJECTIVE
    try:
        return objective_of(optuna.load_study(study_name=name, storage=storage))
    except (KeyError, ImportError, SQLAlchemyError):
        return OBJECTIVE


def _database(url: str) -> str:
    """The database's URL; one of SQLite names its file in full."""
    if urlsplit(url).password:
        raise ConfigError(
            "--search-storage: holds a password, which would stand in logs and in the run's settings; "
            "put it in a file and add ?passfile=FILE"
        )
    if not url.startswith(SQLITE):
        return url
    return SQLITE + durable(url.removeprefix(SQLITE), "--search-storage")


def plan_only(config: TuneConfig) -> RenderableType:
    """The plan, the space and what it will cost, from a few steps of the recipe; nothing is stored."""
    plan = plan_study(config, put=False)
    space = Table("option", "values", box=None)
    for name, values in SPACE.items():
        space.add_row(name, values)
    step_s = step_time_s(plan.base, plan.snapshot.num_ws, plan.snapshot.w_dim)
    total_s = step_s * plan.base.steps * config.trials
    saved = "" if config.pareto else ", less what early stopping saves"
    cost = (
        f"a step takes {1000 * step_s:.0f} ms here: at most {total_s / 60:.0f} minutes, "
        f"one trial at a time{saved}"
    )
    return Group(plan, space, cost)
