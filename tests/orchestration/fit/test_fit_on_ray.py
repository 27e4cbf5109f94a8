"""A fit submitted to a cluster of two nodes, all that it keeps on S3: a killed worker changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from svgan_ray.config import FitConfig
from svgan_ray.demo.behaviour import subject
from svgan_ray.demo.footage import render_footage
from svgan_ray.orchestration.fit.job import run as fit
from svgan_ray.orchestration.runtime.folders import folder_backend
from svgan_ray.store import open_store
from svgan_ray.stylegan.weights import load_encoder, load_generator
from tests.free_port import free_port
from tests.orchestration.faulty_workers import wait_for
from tests.orchestration.invert.plain import track_only

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
BUCKET = "s3://motion"
STEPS, CHECKPOINT = 200, 40


@pytest.fixture(scope="module")
def dashboard(s3: dict[str, str], mlflow_uri: str) -> Iterator[str]:
    """Address to submit jobs to, of a head and another node, a core each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
        patch.setenv("PYTHONPATH", str(ROOT))
        cluster, port = Cluster(), free_port()
        try:
            cluster.add_node(
                num_cpus=1, object_store_memory=100_000_000, include_dashboard=True, dashboard_port=port
            )
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
            ray.init(address=cluster.address, logging_level="WARNING")
            yield f"http://127.0.0.1:{port}"
        finally:
            ray.shutdown()
            cluster.shutdown()


def test_a_submitted_fit_survives_a_killed_worker(
    dashboard: str, weights: Path, tmp_path: Path, mlflow_uri: str
) -> None:
    (tmp_path / "footage").mkdir()
    render_footage(tmp_path / "footage" / "anna.mp4", subject(1), 12.0, seed=1)
    track_only(tmp_path / "footage", weights, open_store(f"{BUCKET}/store", create=True))
    command = f"""
        --store {BUCKET}/store --subject anna --weights {weights} --out {BUCKET}/weights/anna
        --steps {STEPS} --batch 4 --checkpoints {BUCKET}/checkpoints --checkpoint-every-steps {CHECKPOINT}
        --workers 2 --experiment fits
    """.split()
    job = [sys.executable, str(ROOT / "jobs" / "fit.py"), *command]
    ray_command = str(Path(sys.executable).parent / "ray")
    submission = [ray_command, "job", "submit", "--address", dashboard, "--", *job]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen(submission, stdout=output, stderr=output) as submitted:
        backend = folder_backend(f"{BUCKET}/checkpoints")
        wait_for(lambda: any("step-" in entry.key for entry in backend.list("")), "a checkpoint")
        workers = list_actors(filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")])
        assert len(workers) == 2, log.read_text()
        os.kill(workers[1].pid, signal.SIGKILL)
        assert submitted.wait(600) == 0, log.read_text()
    text = log.read_text()
    assert "consent of everybody" in text and "held-out image" in text

    straight = FitConfig(
        store=f"{BUCKET}/store",
        weights=str(weights),
        out=str(tmp_path / "straight"),
        steps=STEPS,
        batch=4,
        checkpoints=str(tmp_path / "checkpoints"),
        checkpoint_every_steps=CHECKPOINT,
        workers=2,
        experiment="straight",
    )
    report = fit(straight)
    assert not report.was_finished and report.finished.scores["mean_db"] > report.finished.before["mean_db"]
    fitted = folder_backend(f"{BUCKET}/weights/anna")
    for network in ("generator", "encoder"):
        expected = (tmp_path / "straight" / network / "model.safetensors").read_bytes()
        assert fitted.get(f"{network}/model.safetensors") == expected
    load_generator(tmp_path / "straight" / "generator")
    load_encoder(tmp_path / "straight" / "encoder")
    source = json.loads(fitted.get("generator/model.json"))["source"]
    assert source["subjects"] == ["anna"] and source["steps"] == report.finished.best_step
    assert "consent" in source["consent"]

    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("fits")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["subject"] == "anna"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "held_out/image_db")]
    assert steps == list(range(0, STEPS + 1, CHECKPOINT))
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert {"gallery.html", "left_out.json", "images"} <= set(files)
    assert fit(straight).was_finished
