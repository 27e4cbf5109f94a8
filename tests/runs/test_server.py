"""A real MLflow server, killed and started again below a running run."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svgan_ray.errors import ConfigError
from svgan_ray.runs import server as mlflow_server
from svgan_ray.runs.server import free_port, page_url, serve, start_server, stop_server

pytestmark = pytest.mark.cluster
STEPS = 1500


def test_a_server_killed_and_restarted_ends_with_the_complete_history(
    open_training_run, uri, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where the server keeps the artifacts that it takes in over HTTP
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = start_server(uri, "mlflow-artifacts:/", port, tmp_path / "server.log")
    try:
        run = open_training_run(uri=address)
        seconds = train(run, tmp_path, range(0, STEPS // 3))
        assert run.flush(240)
        stop_server(server, signal.SIGKILL)
        seconds += train(run, tmp_path, range(STEPS // 3, 2 * STEPS // 3))
        assert not run.flush(30)
        server = start_server(uri, "mlflow-artifacts:/", port, tmp_path / "server.log")
        seconds += train(run, tmp_path, range(2 * STEPS // 3, STEPS))
        run.finish()
    finally:
        stop_server(server)
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("motion").experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (step, 1 / (1 + step)) for step in range(STEPS)
    ]
    assert run.info.status == "FINISHED"
    uploaded = sorted(path.name for path in (tmp_path / "mlartifacts").rglob("*.txt"))
    assert uploaded == sorted(f"sample-{step:04d}.txt" for step in range(0, STEPS, 250))
    assert statistics.median(seconds) < 0.3e-3 and max(seconds) < 2, "a call never waits for the server"


def train(run, folder: Path, steps: range) -> list[float]:
    """Log as a training does; the seconds that each step spent in the run."""
    spent = []
    for step in steps:
        sample = folder / f"sample-{step:04d}.txt"
        if step % 250 == 0:
            sample.write_text("frames")
        started = time.perf_counter()
        run.log_metrics({"loss": 1 / (1 + step), "penalty": 0.25}, step)
        if step % 250 == 0:
            run.log_artifact(sample, "samples")
        spent.append(time.perf_counter() - started)
    return spent


def arguments_of_all_processes():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_the_server_answers_only_to_its_own_name_and_pages(uri, tmp_path):
    with serve(uri, str(tmp_path / "mlartifacts"), log=tmp_path / "server.log") as address:
        search = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
        assert uri.encode() not in b"".join(arguments_of_all_processes()), "it may hold a password"
        with urllib.request.urlopen(search, timeout=10) as answer:
            assert answer.status == 200
        create = f"{address}/api/2.0/mlflow/experiments/create"
        for url, header in (
            (search, {"Host": "rebound.example"}),
            (create, {"Origin": "http://foreign.example"}),
        ):
            request = urllib.request.Request(url, headers={"Content-Type": "application/json", **header})
            request.data = b'{"name": "theirs"}' if url == create else None
            with pytest.raises(urllib.error.HTTPError, match="403") as refusal:
                urllib.request.urlopen(request, timeout=10)
            refusal.value.close()
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"--port {port}"):
            start_server(uri, "mlartifacts", port)
    assert mlflow_server.main(["--port", str(port), "--uri", "nonsense://"]) == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "8.8.8.8", "mlflow.example"])
def test_nobody_beyond_the_private_network_is_let_in(host, uri):
    with pytest.raises(ConfigError, match=f"--host {host}"):
        start_server(uri, "mlartifacts", free_port(), host=host)


def test_the_command_opens_the_page_of_the_latest_run(open_training_run, uri, tmp_path):
    with open_training_run() as run:
        pass
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >"{opened}.part" && mv "{opened}.part" "{opened}"\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "svgan_ray.runs.server", "--uri", uri, "--port", str(free_port())]
    environment = {**os.environ, "DISPLAY": ":9", "BROWSER": f"{browser} %s"}
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said = next(line for line in server.stdout if line.startswith("MLflow is up: "))
            deadline = time.monotonic() + 60
            while not opened.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            server.terminate()
    page = said.split()[3]
    assert f"/#/experiments/{run.experiment_id}?workflowType=" in page
    assert opened.read_text().strip() == page and server.returncode == 0


def test_page_url_names_the_workflow():
    assert page_url("http://h") == "http://h/#/experiments?workflowType=machine_learning"
    assert page_url("http://h", "3", "f0").startswith("http://h/#/experiments/3/runs/f0?workflowType=")
