"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TaskID, TimeElapsedColumn, TimeRemainingColumn

from svgan_ray.orchestration.runtime.background import repeat_in_background
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, plain_column
from svgan_ray.orchestration.train.loop import TrainingJob

__all__ = ["training_progress"]


@contextmanager
def training_progress(run: RemoteRun, job: TrainingJob) -> Iterator[None]:
    """Follow the run's curves in a thread: steps, or minutes if these end the training first."""
    columns = (
        plain_column("training"),
        BarColumn(),
        plain_column("{task.fields[about]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with LoggedProgress(*columns) as bar:
        task = bar.add_task("training", total=1.0, about="starting workers")
        with repeat_in_background(lambda: _show(bar, task, run, job)):
            yield


def _show(bar: LoggedProgress, task: TaskID, run: RemoteRun, job: TrainingJob) -> None:
    step, values = run.latest()
    if "train/minutes" not in values:
        bar.log_line("training: starting workers")
        return
    minutes, speed = values["train/minutes"], values["train/sequences_per_s"]
    in_time = 60 * minutes / job.budget_s if job.budget_s else 0.0
    about = f"step {step:,} of {job.config.steps:,}, {speed:,.0f} sequences/s"
    bar.update(task, completed=max(step / job.config.steps, in_time), about=about)
    bar.log_line(f"training: {about}, {minutes:.1f} minutes")
