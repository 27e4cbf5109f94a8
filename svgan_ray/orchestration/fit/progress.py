"""The progress bar of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TaskID, TimeElapsedColumn, TimeRemainingColumn

from svgan_ray.orchestration.runtime.background import repeat_in_background
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, plain_column

__all__ = ["fit_progress"]


@contextmanager
def fit_progress(run: RemoteRun, steps: int) -> Iterator[Callable[[str], None]]:
    """Follow the run's curves in a thread; before the first curve, the block reports what is being done."""
    columns = (
        plain_column("fitting"),
        BarColumn(),
        plain_column("{task.fields[about]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with LoggedProgress(*columns) as bar:
        task = bar.add_task("fitting", total=steps, about="")
        with repeat_in_background(lambda: _show(bar, task, run, steps)):
            yield lambda about: bar.update(task, about=about)


def _show(bar: LoggedProgress, task: TaskID, run: RemoteRun, steps: int) -> None:
    step, values = run.latest()
    if "fit/images_per_s" not in values:
        return
    about = f"step {step:,} of {steps:,}, {values['fit/images_per_s']:,.0f} images/s"
    bar.update(task, completed=step, about=about)
    bar.log_line(f"fitting: {about}")
