"""The bar that a person watches while workers train."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from svgan_ray.orchestration.training.journal import RunTracker
from svgan_ray.orchestration.training.loop import TrainingJob

__all__ = ["training_progress"]

_INTERVAL_S = 1.0


@contextmanager
def training_progress(tracker: RunTracker, job: TrainingJob) -> Iterator[None]:
    """Follow the run's curves in a thread: steps, or minutes where these end the training first."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.fields[about]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    over = threading.Event()
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=1.0, about="starting workers")
        thread = threading.Thread(target=_follow, args=(bar, task, tracker, job, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _follow(
    bar: Progress, task: TaskID, tracker: RunTracker, job: TrainingJob, over: threading.Event
) -> None:
    while not over.wait(_INTERVAL_S):
        step, values = tracker.latest()
        if "train/minutes" not in values:
            continue
        minutes, speed = values["train/minutes"], values["train/sequences_per_s"]
        in_time = 60 * minutes / job.budget_s if job.budget_s else 0.0
        about = f"step {step:,} of {job.config.steps:,}, {speed:,.0f} sequences/s"
        bar.update(task, completed=max(step / job.config.steps, in_time), about=about)
