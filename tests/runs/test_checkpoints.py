"""Checkpoints are logged models with what was measured of them: one query finds the best over all runs."""

from __future__ import annotations

import shutil

from mlflow import MlflowClient

from svgan_ray.runs import Dataset, replay
from svgan_ray.runs.events import Event
from svgan_ray.runs.spool import RunInfo, Spool

ANNA, BEN = Dataset("anna", "a" * 64), Dataset("ben", "b" * 64)
OBJECTIVE = "frechet_motion"


def best(uri: str, **dataset: str):
    """The checkpoint of the smallest objective in the experiment, over all of its runs."""
    client = MlflowClient(uri)
    places = [client.get_experiment_by_name("motion").experiment_id]
    order = [{"field_name": f"metrics.{OBJECTIVE}", "ascending": True, **dataset}]
    return client.search_logged_models(places, order_by=order)[0]


def log(run, name: str, step: int, distance: float, dataset: Dataset) -> None:
    run.log_checkpoint(f"{name} step {step}", step, f"s3://bucket/{name}/best")
    run.log_metrics({OBJECTIVE: distance, "drift": 1.0}, step, f"{name} step {step}", dataset)


def test_one_query_finds_the_best_checkpoint_over_all_runs(open_training_run, uri):
    with open_training_run("first") as run:
        log(run, "train a/1.0", 100, 9.0, ANNA)
        log(run, "train a/1.0", 200, 2.5, ANNA)
        run.log_metrics({OBJECTIVE: 0.1}, 300)  # was not kept: it is the run's alone
    with open_training_run("second") as run:
        log(run, "train b", 100, 4.0, ANNA)
        log(run, "train b", 200, 1.5, BEN)
    anna = best(uri, dataset_name="anna", dataset_digest="a" * 36)
    assert (anna.name, anna.tags["svgan_ray.step"]) == ("train a_1_0 step 200", "200")
    assert anna.tags["svgan_ray.checkpoint"] == "s3://bucket/train a/1.0/best"
    assert best(uri).name == "train b step 200", "on whatever footage"
    assert {(one.key, one.value, one.step, one.dataset_name) for one in anna.metrics} == {
        (OBJECTIVE, 2.5, 200, "anna"),
        ("drift", 1.0, 200, "anna"),
    }
    client = MlflowClient(uri)
    source = client.get_run(anna.source_run_id)
    assert source.info.run_name == "run first"
    history = client.get_metric_history(anna.source_run_id, OBJECTIVE)
    assert [(one.step, one.value) for one in history] == [(100, 9.0), (200, 2.5), (300, 0.1)]
    assert (anna.model_id, 200) in [(one.model_id, one.step) for one in source.outputs.model_outputs]


def test_what_is_delivered_twice_is_one_checkpoint(uri, tmp_path):
    spool = Spool.create(tmp_path / "spool", RunInfo("motion", "run", "train", "run", None, 1, {}))
    spool.append(Event("checkpoint", {"name": "one", "step": 7, "address": "here"}))
    values = {"time_ms": 5, "step": 7, "values": {OBJECTIVE: 3.0}}
    spool.append(Event("metrics", values | {"model": "one", "dataset": "anna", "digest": "a"}))
    spool.append(Event("metrics", values | {"step": 8, "model": "never told of"}))
    spool.close(keep=True)
    for copy in ("once", "twice"):
        shutil.copytree(tmp_path / "spool", tmp_path / copy)
        assert replay(tmp_path / copy, uri).rejected_events == 0
    client = MlflowClient(uri)
    (model,) = client.search_logged_models([client.get_experiment_by_name("motion").experiment_id])
    assert str(model.status) == "READY" and [one.value for one in model.metrics] == [3.0]
