"""The whole demo on Ray, small: a second run does nothing, a lost file brings back what made it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient

from svgan_ray.config import DemoConfig
from svgan_ray.orchestration.demo import job as demo_job
from svgan_ray.orchestration.demo.plan import DemoPlan, plan_of
from svgan_ray.orchestration.invert.plan import inversion_of
from svgan_ray.runs import default_uri
from svgan_ray.runs.mlflow_sink import IDENTITY_TAG, KIND_TAG
from tests.footage import make_video, make_weights
from tests.motion import tiny

LINKED = ("invert", "train", "tune", "sample", "evaluate")
KINDS = (*LINKED, "trial")
STAGES = ["invert", "train", "tune", "sample", "evaluate", "page"]


def small(plan: DemoPlan, video: Path, weights: Path) -> DemoPlan:
    """The same jobs with networks and budgets of a test, on a video that is there."""
    own = {"weights": plan.fit.out if plan.fit else str(weights)}
    invert = dataclasses.replace(plan.invert, **own, videos=(str(video),))
    learn = {**own, "subject": video.stem, "temporal": tiny(steps=12)}
    if plan.fit is None:
        learn["inversion"] = inversion_of(invert, invert.store).inversion_id
    videos = [dataclasses.replace(s, **own, seconds=1.0) for s in (*plan.samples, *plan.transfers)]
    return dataclasses.replace(
        plan,
        videos=(video,),
        subject=video.stem,
        other="demo:2" if plan.transfers else "",
        invert=invert,
        train=dataclasses.replace(plan.train, **learn, sample_every_steps=12, minutes=None),
        tune=dataclasses.replace(plan.tune, **learn, trials=2, rungs=2) if plan.tune else None,
        samples=tuple(videos[: len(plan.samples)]),
        transfers=tuple(dataclasses.replace(v, subject="demo:2") for v in videos[len(plan.samples) :]),
        evaluate=dataclasses.replace(plan.evaluate, samples=4, seconds=4.0),
        rendered_s=(),
        fit=dataclasses.replace(plan.fit, weights=str(weights), steps=6, batch=4) if plan.fit else None,
    )


def runs_lead_to_each_other(experiment: str) -> None:
    """Every run is found again by an identity, names code and machine, and shares its origin's tags."""
    client = MlflowClient(default_uri())
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert len({run.data.tags[IDENTITY_TAG] for run in runs}) == len(runs)
    for run in runs:
        assert {"svgan_ray.version", "svgan_ray.machine", "mlflow.source.name"} <= run.data.tags.keys()
    of_kind = {kind: [run for run in runs if run.data.tags[KIND_TAG] == kind] for kind in KINDS}
    assert sum(map(len, of_kind.values())) == len(runs) and all(of_kind.values())
    assert len({run.data.tags["svgan_ray.link.inversion"] for kind in LINKED for run in of_kind[kind]}) == 1
    readers = [run for kind in LINKED if kind != "invert" for run in of_kind[kind]]
    digests = {run.data.tags["svgan_ray.link.snapshot"] for run in readers}
    read = {data.dataset.digest for run in readers for data in run.inputs.dataset_inputs}
    assert all(run.inputs.dataset_inputs for run in readers) and len(digests) == len(read) == 1
    assert digests.pop().startswith(read.pop())
    (study,) = of_kind["tune"]
    assert {run.data.tags["mlflow.parentRunId"] for run in of_kind["trial"]} == {study.info.run_id}


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_the_demo_of_rendered_footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = make_video(tmp_path / "anna.mp4", 200, seed=1)
    weights = make_weights(tmp_path / "weights")
    monkeypatch.setattr(demo_job, "plan_of", lambda config: small(plan_of(config), video, weights))
    config = DemoConfig(folder=str(tmp_path / "demo"))

    first = demo_job.run(config)

    assert [row.name for row in first.rows] == STAGES
    assert not any(row.is_from_before for row in first.rows)
    assert all(row.finished.peak_bytes for row in first.rows)
    assert not ray.is_initialized()
    plan = small(plan_of(config), video, weights)
    assert (plan.folder / "index.html").is_file()
    assert all(Path(s.out).is_file() for s in (*plan.samples, *plan.transfers))

    runs_lead_to_each_other(plan.train.experiment)

    second = demo_job.run(config)
    assert all(row.is_from_before for row in second.rows)

    shutil.rmtree(plan.train.model)
    before = (plan.folder / "index.html").stat().st_mtime_ns
    third = demo_job.run(config)
    assert [row.name for row in third.rows if not row.is_from_before] == ["train"]
    assert Path(plan.train.model, "model.json").is_file()
    assert (plan.folder / "index.html").stat().st_mtime_ns == before


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_the_demo_of_own_footage_fits_weights_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = make_video(tmp_path / "anna.mp4", 300, seed=1)
    weights = make_weights(tmp_path / "weights")
    monkeypatch.setattr(demo_job, "plan_of", lambda config: small(plan_of(config), video, weights))
    config = DemoConfig(folder=str(tmp_path / "demo"), video=str(video))

    first = demo_job.run(config)

    assert [row.name for row in first.rows] == [
        "track",
        "fit",
        "invert",
        "train",
        "sample",
        "evaluate",
        "page",
    ]
    plan = small(plan_of(config), video, weights)
    assert plan.fit is not None
    document = (plan.folder / "index.html").read_text()
    assert "How near the fitted weights are" in document
    record = json.loads(Path(plan.fit.out, "generator", "model.json").read_text())
    assert record["source"]["subjects"] == ["anna"] and record["source"]["steps"] == 6
    client = MlflowClient(default_uri())
    runs = client.search_runs([client.get_experiment_by_name(plan.fit.experiment).experiment_id])
    kinds = [run.data.tags[KIND_TAG] for run in runs]
    assert {"track", "fit", "invert", "train", "sample", "evaluate"} == set(kinds)
    assert all(row.is_from_before for row in demo_job.run(config).rows)
