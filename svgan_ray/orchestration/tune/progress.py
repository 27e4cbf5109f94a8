"""The progress bar of a study, and the closing of its trials' runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from rich.progress import BarColumn, TaskID, TimeElapsedColumn

from svgan_ray.orchestration.runtime.background import repeat_in_background
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, plain_column
from svgan_ray.orchestration.tune.plan import StudyPlan

__all__ = ["TrialBook", "study_progress"]


class TrialBook(tune.Callback):
    """Tells the journal, which it finds by name as Tune pickles callbacks, which trials have ended."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._close(trial, "FINISHED")
        over = (Trial.TERMINATED, Trial.ERROR)  # the trial itself may not have that status yet
        ended = [one for one in trials if one.trial_id == trial.trial_id or one.status in over]
        name = self._plan.objective
        objectives = [one.last_result[name] for one in ended if name in one.last_result]
        values = {"trials": float(len(ended)), f"best_{name}": min(objectives)} if objectives else {}
        self._run().log_metrics(values, len(ended))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._close(trial, "FAILED")

    def _close(self, trial: Trial, status: str) -> None:
        ray.get_actor(self._plan.identity).finish.remote(self._plan.trial_run(trial.trial_id), status)

    def _run(self) -> RemoteRun:
        return RemoteRun(ray.get_actor(self._plan.identity), self._plan.run)


@contextmanager
def study_progress(run: RemoteRun, plan: StudyPlan) -> Iterator[None]:
    """A bar of trials, in a thread beside the driver."""
    about = plain_column("{task.fields[about]}")
    with LoggedProgress(plain_column("tuning"), BarColumn(), about, TimeElapsedColumn()) as bar:
        task = bar.add_task("tuning", total=plan.config.trials, about="starting trials")
        with repeat_in_background(lambda: _show(bar, task, run, plan.objective)):
            yield


def _show(bar: LoggedProgress, task: TaskID, run: RemoteRun, objective: str) -> None:
    ended, values = run.latest()
    if ended:
        best = values[f"best_{objective}"]
        bar.update(task, completed=ended, about=f"{ended} trials ended, best {objective} {best:.2f}")
    bar.log_line(f"tuning: {bar.tasks[0].fields['about']}")
