"""Every job with footage, store, checkpoints, models and artifacts of runs on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest

from svgan_ray.runs.server import serve
from svgan_ray.video.reading import open_video
from tests.footage import make_video, make_weights
from tests.jobs.conftest import ROOT
from tests.s3_servers import make_bucket, rgw_is_missing, rgw_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

BUCKET = "experiments"
EXPERIMENT = f"""
experiment = "on-s3"
store = "s3://{BUCKET}/store"
weights = "weights"
subject = "anna"
[invert]
videos = ["s3://{BUCKET}/footage"]
actors = "1"
[train]
model = "s3://{BUCKET}/models/anna"
checkpoints = "s3://{BUCKET}/checkpoints"
checkpoint_every_steps = 6
sample_every_steps = 12
sample_seconds = 1.0
[train.temporal]
basis_size = 8
window_frames = 12
batch_size = 4
steps = 12
[tune]
model = "s3://{BUCKET}/models/anna-tuned"
study_folder = "s3://{BUCKET}/studies"
trials = 2
evaluations = 2
concurrent_trials = 1
[tune.temporal]
basis_size = 8
window_frames = 12
batch_size = 4
steps = 12
[sample]
model = "s3://{BUCKET}/models/anna"
seconds = 1.0
[evaluate]
model = "s3://{BUCKET}/models/anna"
samples = 4
seconds = 4.0
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a job: an S3 server, and an MLflow server that keeps artifacts on it."""
    if rgw_is_missing():
        pytest.skip(f"needs the system package of an S3 server: {rgw_is_missing()}")
    folder = tmp_path_factory.mktemp("mlflow")
    with rgw_server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        make_bucket(s3, BUCKET)
        with serve(f"sqlite:///{folder}/mlflow.db", f"s3://{BUCKET}/mlflow", log=folder / "log") as url:
            yield {**os.environ, "MLFLOW_TRACKING_URI": url}


@pytest.fixture(scope="module")
def folder(services: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the jobs; the footage is in the bucket alone."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "experiment.toml").write_text(EXPERIMENT)
    make_weights(folder / "weights")
    video = make_video(tmp_path_factory.mktemp("footage") / "anna.mp4", 200, seed=1)
    client = boto3.client("s3", endpoint_url=services["AWS_ENDPOINT_URL"])
    for file in video.parent.iterdir():
        client.upload_file(str(file), BUCKET, f"footage/{file.name}")
    client.close()
    return folder


def run(job: str, folder: Path, services: Mapping[str, str]) -> str:
    """Run a job without a flag, as experiment.toml describes it; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{job}.py")],
        cwd=folder,
        env={**services, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"{job}:\n{done.stdout}"
    assert services["AWS_SECRET_ACCESS_KEY"] not in done.stdout
    return done.stdout


def keys(services: Mapping[str, str], prefix: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=services["AWS_ENDPOINT_URL"])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    found = [item["Key"] for page in pages for item in page.get("Contents", [])]
    client.close()
    return found


def test_all_jobs_on_s3(services: dict[str, str], folder: Path) -> None:
    assert "clips committed" in run("invert", folder, services)
    assert keys(services, "store/commits/")
    assert "nothing to do" in run("invert", folder, services)

    run("train", folder, services)
    assert keys(services, "checkpoints/")
    assert any(key.endswith(".safetensors") for key in keys(services, "models/anna/"))

    run("tune", folder, services)
    assert any(key.endswith(".safetensors") for key in keys(services, "models/anna-tuned/"))

    run("sample", folder, services)
    with open_video(folder / "samples" / "sample.mp4") as video:
        assert video.info.frame_count == 25

    run("evaluate", folder, services)
    assert (folder / "reports" / "evaluation.json").is_file()

    artifacts = keys(services, "mlflow/")
    assert any(key.endswith(".mp4") for key in artifacts)
    assert any(key.endswith(".png") for key in artifacts)
    for place in ("store", "models", "runs", "mlruns", "mlartifacts", "mlflow.db"):
        assert not (folder / place).exists(), f"{place} was written beside the job"
