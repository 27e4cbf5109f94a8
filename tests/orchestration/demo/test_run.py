"""A run does what is open, in order, and a stopped one goes on where it was."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from svgan_ray.orchestration.demo.job import DemoReport, Row, run_stages
from svgan_ray.orchestration.demo.stages import Finished, Stage, StateFile


class Work:
    """Stages that write a file each and count their runs; one of them may fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[str] = []
        self.failing = ""

    def stages(self, inputs: str = "same") -> list[Stage]:
        return [
            Stage(n, f"make {n}", inputs, (self.folder / n,), lambda n=n: self.work(n), needs_ray=False)
            for n in ("footage", "train", "page")
        ]

    def work(self, name: str) -> str:
        if name == self.failing:
            raise RuntimeError(f"{name} failed")
        self.done.append(name)
        (self.folder / name).write_text(name)
        return f"{name} is made"


def run(work: Work, inputs: str = "same") -> tuple[list[Row], str]:
    rows: list[Row] = []
    output = io.StringIO()
    console = Console(file=output, width=200)
    run_stages(work.stages(inputs), StateFile(work.folder, {}), rows, console)
    return rows, output.getvalue()


def test_a_second_run_does_nothing_and_says_so(tmp_path: Path) -> None:
    work = Work(tmp_path)
    first, output = run(work)
    assert work.done == ["footage", "train", "page"]
    assert "[2/3] train: make train" in output
    second, output = run(work)
    assert work.done == ["footage", "train", "page"]
    assert "[2/3] train: finished before, train is made" in output
    assert [(r.name, r.finished, r.is_from_before) for r in second] == [
        (r.name, r.finished, True) for r in first
    ]


def test_a_stage_that_failed_is_where_the_next_run_goes_on(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.failing = "train"
    with pytest.raises(RuntimeError, match="train failed"):
        run(work)
    work.failing = ""
    rows, _ = run(work)
    assert work.done == ["footage", "train", "page"]
    assert [row.is_from_before for row in rows] == [True, False, False]


def test_other_inputs_run_again(tmp_path: Path) -> None:
    work = Work(tmp_path)
    run(work)
    run(work, inputs="other weights")
    assert work.done == ["footage", "train", "page"] * 2


def test_the_table_shows_time_memory_and_figure_of_each_stage_and_of_all() -> None:
    rows = (
        Row("footage", Finished("a", "3 videos", 65.2, 1 << 30, {}), is_from_before=True),
        Row("train", Finished("b", "20 steps/s", 30.0, 3 << 29, {}), is_from_before=False),
        Row("page", Finished("c", "index.html", 0.0, None, {}), is_from_before=False),
    )
    output = io.StringIO()
    Console(file=output, width=200).print(DemoReport(Path("demo"), "demo", rows))
    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert lines[1:5] == [
        "footage 1:05 (before) 1.0 GiB 3 videos",
        "train 0:30 1.5 GiB 20 steps/s",
        "page 0:00 not measured index.html",
        "in all 1:35 1.5 GiB of which 0:30 in this run",
    ]
    assert any("demo/index.html" in line for line in lines)
    assert any("make mlflow-ui" in line for line in lines)
