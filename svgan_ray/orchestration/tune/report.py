"""The report of a study: a table of its trials, and the best one's options as a preset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune import Result, ResultGrid
from rich.console import Group, RenderableType
from rich.table import Table

from svgan_ray.orchestration.runtime.suggested import next_step
from svgan_ray.orchestration.tune.plan import StudyPlan
from svgan_ray.orchestration.tune.trial import SEQUENCES
from svgan_ray.temporal.recipes import RECIPES, TemporalConfig

__all__ = ["TrialRow", "TuneReport", "list_of", "preset_of", "trial_rows"]


@dataclass(frozen=True)
class TrialRow:
    """One trial as it ended."""

    number: int
    trial_id: str
    objective: float | None
    state: str
    sequences: int
    minutes: float
    params: Mapping[str, Any]
    values: tuple[float, ...] = ()
    """The values of the study's objectives, in their order."""

    @property
    def is_sound(self) -> bool:
        """Whether the trial ran until it was finished or stopped early."""
        return self.state in ("finished", "stopped early")


@dataclass(frozen=True)
class TuneReport:
    """The result of a study."""

    plan: StudyPlan
    trials: tuple[TrialRow, ...]
    best: TrialRow

    exit_code = 0

    def __rich__(self) -> RenderableType:
        names = ("store", "weights", "subject", "snapshot", "inversion")
        chosen = {name: getattr(self.plan.config, name) for name in names}
        return Group(self._table(), self._summary(), next_step("train", preset=self.plan.preset, **chosen))

    @property
    def front(self) -> tuple[TrialRow, ...]:
        """The trials that no other one is better than in all objectives."""
        sound = [trial for trial in self.trials if trial.is_sound and trial.values]
        return tuple(trial for trial in sound if not any(_dominates(other, trial) for other in sound))

    def _table(self) -> Table:
        options = list(dict.fromkeys(name for trial in self.trials for name in trial.params))
        sides = self.plan.objectives if self.plan.config.pareto else ()
        table = Table(
            "trial", self.plan.objective, *sides, "state", "sequences", "minutes", *options, box=None
        )
        front = self.front
        for trial in self.trials:
            objective = "" if trial.objective is None else f"{trial.objective:.2f}"
            values = [f"{value:.2f}" for value in trial.values] if sides else []
            values = values or [""] * len(sides)
            state = f"{trial.state}, on the front" if sides and trial in front else trial.state
            spent = f"{trial.sequences:,}", f"{trial.minutes:.1f}"
            shown = (_shown(trial.params.get(name, "")) for name in options)
            style = "bold green" if trial is self.best else None if trial.is_sound else "red"
            table.add_row(str(trial.number), objective, *values, state, *spent, *shown, style=style)
        return table

    def _summary(self) -> Table:
        table = Table(box=None, show_header=False)
        table.add_row("best trial", f"{self.best.number}, {self.plan.objective} {self.best.objective:.2f}")
        table.add_row("model", self.plan.model)
        table.add_row("preset", self.plan.preset)
        return table


def list_of(results: ResultGrid) -> list[Result]:
    """Tune's grid as a list; its type allows indexing but not iteration."""
    return [results[number] for number in range(len(results))]


def trial_rows(plan: StudyPlan, results: ResultGrid) -> tuple[TrialRow, ...]:
    """The trials in the order in which they were proposed."""
    rows = []
    for number, result in enumerate(list_of(results), 1):
        metrics = result.metrics or {}
        sequences = metrics.get(SEQUENCES, 0)
        state = "finished" if sequences >= plan.sequences else "stopped early"
        if result.error is not None:
            state = "failed"
        elif metrics.get("diverged"):
            state = "diverged"
        params = {name: value for name, value in (result.config or {}).items() if name != "temporal"}
        minutes = metrics.get("time_total_s", 0.0) / 60
        values = tuple(metrics[name] for name in plan.objectives if name in metrics)
        trial_id, objective = metrics.get("trial_id", ""), metrics.get(plan.objective)
        rows.append(TrialRow(number, trial_id, objective, state, sequences, minutes, params, values))
    return tuple(rows)


def preset_of(plan: StudyPlan, best: TemporalConfig, row: TrialRow) -> bytes:
    """The preset: the options that differ from the recipe, except the length of the training."""
    recipe = plan.config.recipe
    changes = _difference(RECIPES[recipe]().to_dict(), best.to_dict())
    changes.pop("steps", None)
    found_by = {"study": plan.config.study, "trial": row.number, plan.objective: row.objective}
    found_by["snapshot"] = plan.snapshot.digest
    return (
        json.dumps({"recipe": recipe, "temporal": changes, "found_by": found_by}, indent=2) + "\n"
    ).encode()


def _dominates(one: TrialRow, other: TrialRow) -> bool:
    """Whether one is better than the other in at least one objective and worse in none."""
    return one.values != other.values and all(a <= b for a, b in zip(one.values, other.values, strict=True))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, value in after.items():
        if isinstance(value, dict):
            if nested := _difference(before[name], value):
                changes[name] = nested
        elif value != before[name]:
            changes[name] = value
    return changes


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
