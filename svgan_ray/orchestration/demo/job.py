"""The demo runs every job once, in order, skips stages that are finished, and prints a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table

from svgan_ray.config import DemoConfig
from svgan_ray.orchestration.demo.memory import PeakMemory
from svgan_ray.orchestration.demo.page import PAGE
from svgan_ray.orchestration.demo.page import Table as PageTable
from svgan_ray.orchestration.demo.plan import plan_of
from svgan_ray.orchestration.demo.stages import Finished, Stage, StateFile
from svgan_ray.orchestration.demo.work import stages_of
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.orchestration.runtime.terminal import console
from svgan_ray.runs import default_uri

__all__ = ["DemoReport", "Row", "plan", "run", "run_stages"]

HEADER = ("stage", "time", "memory", "figure")


@dataclass(frozen=True)
class Row:
    """A row of the table: a stage that ended in this run or in an earlier one."""

    name: str
    finished: Finished
    is_from_before: bool

    def cells(self) -> tuple[str, str, str, str]:
        """The row as text, in the order of HEADER."""
        earlier = " (before)" if self.is_from_before else ""
        duration = _minutes(self.finished.duration_s) + earlier
        return self.name, duration, _gibibytes(self.finished.peak_bytes), self.finished.figure


@dataclass(frozen=True)
class DemoReport:
    """The table at the end, and the places of the results."""

    folder: Path
    experiment: str
    rows: tuple[Row, ...]
    exit_code: int = 0

    def __rich__(self) -> RenderableType:
        table = Table(*HEADER, box=None)
        for row in self.rows:
            table.add_row(*row.cells())
        table.add_row(*_total(self.rows))
        return Group(
            table,
            "memory is the peak of each stage, over all processes, without Ray's object store",
            f"look at     {self.folder / PAGE}",
            f"or at       experiment {self.experiment!r} in MLflow, {_mlflow_page()}",
        )


def run(config: DemoConfig) -> DemoReport:
    """Run the stages of the demo that are not finished yet."""
    resolved = plan_of(config)
    shown = console()
    rows: list[Row] = []
    stages = stages_of(resolved, lambda: PageTable(HEADER, [row.cells() for row in rows]))
    run_stages(stages, StateFile(resolved.folder, resolved.settings), rows, shown)
    return DemoReport(resolved.folder, config.experiment, tuple(rows))


def plan(config: DemoConfig) -> Table:
    """The stages, and which of them are finished."""
    resolved = plan_of(config)
    state = StateFile(resolved.folder, resolved.settings)
    table = Table("stage", "plan", "", box=None)
    for stage in stages_of(resolved, lambda: PageTable((), ())):
        table.add_row(stage.name, "finished" if state.finished(stage) else "to do", stage.about)
    return table


def run_stages(stages: Sequence[Stage], state: StateFile, rows: list[Row], shown: Console) -> None:
    """Run the open stages in order, adding to `rows`; Ray starts once, with the first stage that needs it."""
    with ExitStack() as stack:
        pace = _Pace([stage for stage in stages if not state.finished(stage)])
        for number, stage in enumerate(stages, 1):
            heading = f"[{number}/{len(stages)}] {stage.name}: "
            before = state.finished(stage)
            if before:
                shown.print(f"{heading}finished before, {before.figure}")
                rows.append(Row(stage.name, before, True))
                continue
            shown.print(f"{heading}{stage.about} ({pace.left})", style="bold")
            if stage.needs_ray:
                stack.enter_context(connect())
            rows.append(Row(stage.name, _run(stage, state), False))
            pace.ended(stage, rows[-1].finished.duration_s)


class _Pace:
    """Estimates the time left for the open stages from the time of those that have ended."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._left_s = sum(stage.expected_s for stage in stages)
        self._expected_s = self._took_s = 60.0  # so that a first short stage does not decide alone

    @property
    def left(self) -> str:
        left_s = self._left_s * self._took_s / self._expected_s
        return f"about {max(1, round(left_s / 60))} minutes left in all"

    def ended(self, stage: Stage, took_s: float) -> None:
        self._left_s -= stage.expected_s
        self._expected_s += stage.expected_s
        self._took_s += took_s


def _run(stage: Stage, state: StateFile) -> Finished:
    began_s = time.monotonic()
    with PeakMemory() as memory:
        figure = stage.work()
    return state.finish(stage, figure, time.monotonic() - began_s, memory.peak_bytes)


def _total(rows: Iterable[Row]) -> tuple[str, str, str, str]:
    rows = list(rows)
    peaks = [row.finished.peak_bytes for row in rows if row.finished.peak_bytes is not None]
    now_s = sum(row.finished.duration_s for row in rows if not row.is_from_before)
    all_s = sum(row.finished.duration_s for row in rows)
    now = "" if now_s == all_s else f"of which {_minutes(now_s)} in this run"
    return "in all", _minutes(all_s), _gibibytes(max(peaks, default=None)), now


def _minutes(duration_s: float) -> str:
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes}:{seconds:02}"


def _gibibytes(size_bytes: int | None) -> str:
    return "not measured" if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


def _mlflow_page() -> str:
    uri = default_uri()
    return uri if uri.startswith("http") else "which `make mlflow-ui` opens at http://127.0.0.1:5000"
