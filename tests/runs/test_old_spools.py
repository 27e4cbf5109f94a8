"""Spools of version 0.1.0 are delivered, and events are still written as it wrote them."""

from __future__ import annotations

import math
import re
import shutil
import uuid
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from svgan_ray.runs import ReplayReport, open_run, registry, replay

SPOOLS = Path(__file__).with_name("spools")


def test_a_spool_that_version_0_1_0_left_is_delivered(uri, tmp_path, monkeypatch):
    """One event of each kind, as they were written before the package was renamed to runs."""
    shutil.copytree(SPOOLS, tmp_path / "spool")
    models = []
    monkeypatch.setattr(registry, "log_model", lambda client, run, *model: models.append(model))
    assert replay(tmp_path / "spool", uri) == ReplayReport(["identity of old"], 0)
    client = MlflowClient(uri)
    places = [client.get_experiment_by_name("motion").experiment_id]
    (run,) = client.search_runs(places, "tags.`svgan_ray.identity` = 'identity of old'")
    (parent,) = client.search_runs(places, "tags.`svgan_ray.identity` = 'its parent'")
    assert (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time) == (
        "train old",
        "FINISHED",
        1796066715401,
        1796066715407,
    )
    assert run.data.params == {"steps": "200", "seed": "7"} and run.data.metrics["lag s"] == 1.25
    first, second = client.get_metric_history(run.info.run_id, "loss")
    assert (first.step, first.value, first.timestamp) == (1, 0.5, 1796066715406)
    assert second.step == 2 and math.isnan(second.value)
    wanted = {
        "mlflow.parentRunId": parent.info.run_id,
        "mlflow.user": "anna",
        "svgan_ray.kind": "train",
        "store": "s3://bucket/store",
        "svgan_ray.link.snapshot": "ab12",
        "mlflow.loggedImages": "True",
    }
    assert wanted.items() <= run.data.tags.items()
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.tags[0].value) == ("snapshot", "0" * 36, "training")
    artifacts = tmp_path / "mlartifacts" / "motion" / run.info.run_id / "artifacts"
    assert (artifacts / "samples/step-00000002.txt").read_text() == "a sample\n"
    assert len(list(artifacts.glob("images/samples~strip+step+2+timestamp+1796066715407+*"))) == 2
    ((folder, *named),) = models
    assert (folder.name, named) == ("model", ["motion-anna", "cd" * 32])


def test_events_are_written_as_version_0_1_0_wrote_them(tmp_path, monkeypatch):
    """Byte for byte, so that an older version can deliver them, too."""
    monkeypatch.setattr("time.time_ns", lambda: 1796066715406_000_000)
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID("36b2f046f25c4c439bebb75b3456a196"))
    (tmp_path / "model").mkdir()
    run = open_run("motion", "train old", "train", "identity of old", None, tmp_path, "http://127.0.0.1:9")
    run.log_params({"steps": 200, "seed": 7})
    run.log_metrics({"loss": 0.5, "lag s": 1.25}, 1)
    run.log_metrics({"loss": float("nan")}, 2)
    run.set_tags({"store": "s3://bucket/store"})
    run.link({"snapshot": "ab12"})
    run.log_input("snapshot", "0" * 64, "s3://bucket/store", "training")
    run.log_file("samples/step-00000002.txt", b"a sample\n")
    run.log_image(np.zeros((4, 4, 3), np.uint8), "samples/strip", 2)
    run.log_model(tmp_path / "model", "motion-anna", "cd" * 32)
    (events,) = tmp_path.glob("*/events.jsonl")
    (old,) = SPOOLS.glob("*/events.jsonl")
    without_times = re.compile(rb"17960667154\d\d")
    assert without_times.sub(b"", events.read_bytes()) == without_times.sub(
        b"", old.read_bytes().rpartition(b'{"kind":"finish"')[0]
    )
    run.finish()
