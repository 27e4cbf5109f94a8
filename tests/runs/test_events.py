"""The one type of event: each kind that a run makes means something to MLflow, and others harm nothing."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient

from svgan_ray.runs import ReplayReport, local_run, mlflow_sink, replay, run
from svgan_ray.runs.events import Attachment, Event
from svgan_ray.runs.spool import RunInfo, Spool


def test_every_kind_of_event_that_a_run_makes_is_known_to_mlflow():
    source = Path(run.__file__).read_text() + Path(local_run.__file__).read_text()
    assert set(re.findall(r'(?:_tell|Event)\(\s*"(\w+)"', source)) == mlflow_sink._CALLS.keys()


def test_an_event_of_a_newer_version_is_set_aside_and_the_rest_arrives(uri, tmp_path):
    spool = Spool.create(tmp_path / "spool", RunInfo("motion", "run", "train", "run", None, 1, {}))
    spool.append(Event("hologram", {"depth": 3}, Attachment("hologram.bin", b"depth")))
    spool.append(Event("tags", {"values": {"seed": "7"}}))
    spool.close()
    assert replay(tmp_path / "spool", uri) == ReplayReport(["run"], 1)
    client = MlflowClient(uri)
    (arrived,) = client.search_runs([client.get_experiment_by_name("motion").experiment_id])
    assert arrived.data.tags["seed"] == "7"
    (rejected,) = (tmp_path / "spool").rglob("rejected.jsonl")
    assert '{"kind": "hologram", "depth": 3, "file": "files/000001/hologram.bin"}' in rejected.read_text()
