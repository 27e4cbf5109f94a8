"""The journal, without its actor: what several workers tell arrives once, in the runs that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from svgan_ray.orchestration.runtime.journal import Journal, RunKey
from svgan_ray.runs import Run
from svgan_ray.runs.events import Event
from svgan_ray.runs.run import Status


@dataclass
class RecordedRun(Run):
    """A RemoteRun without an actor between it and the journal."""

    journal: Journal
    key: RunKey

    def append(self, event: Event) -> None:
        self.journal.append(self.key, event)

    def finish(self, status: Status = "FINISHED") -> None:
        self.journal.finish(self.key, status)


def test_what_is_told_arrives_once_in_its_run(tmp_path: Path, mlflow_uri: str) -> None:
    journal = Journal(str(tmp_path / "spool"), mlflow_uri, "train.py")
    study = RecordedRun(journal, RunKey("journals", "study", "tune", "study"))
    trial = RecordedRun(journal, RunKey("journals", "trial", "trial", "study/one", parent="study"))

    study.log_params({"seed": 0})
    for step in (1, 21, 41, 21, 41, 61):  # killed after 41, resumed from before 21
        trial.log_metrics({"loss": 1 / step}, step)
    trial.log_metrics({"frechet": 2.0}, 41)
    assert journal.latest(trial.key) == (41, {"frechet": 2.0})
    trial.log_file("samples/step-1.txt", b"content")
    trial.log_image(np.zeros((8, 8, 3), np.uint8), "strip", 41)
    trial.finish("FAILED")
    journal.finish_all("FINISHED")

    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("journals").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert runs["trial"].data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
    assert (runs["study"].info.status, runs["trial"].info.status) == ("FINISHED", "FAILED")
    points = client.get_metric_history(runs["trial"].info.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(n, 1 / n) for n in (1, 21, 41, 61)]
    copy = client.download_artifacts(runs["trial"].info.run_id, "samples/step-1.txt", str(tmp_path))
    assert Path(copy).read_bytes() == b"content"
