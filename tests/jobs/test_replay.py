"""A server that is slow, absent or killed changes no weight; a replay completes what a killed job told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor

from svgan_ray.latents.basis import fit_basis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.runs import Run, open_run
from svgan_ray.runs.server import free_port, start_server, stop_server
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.training import TrainingState, new_state, train_step
from tests.motion import motion, tiny

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
STEPS, PAUSE_AT = 300, 100

KILLED = """
import os, signal, sys
from pathlib import Path
from svgan_ray.temporal.checkpoints import save_checkpoint
from svgan_ray.runs import open_run
from tests.jobs.test_replay import PAUSE_AT, train
run = open_run("motion", "killed", "train", "killed", None, Path("mlspool"), sys.argv[1])
def pause(state):
    if state.step == PAUSE_AT:
        assert run.flush(240)
        print("delivered", flush=True)
        sys.stdin.readline()
save_checkpoint(train(run, pause), "checkpoint")
os.kill(os.getpid(), signal.SIGKILL)
"""


def train(run: Run | None, then=lambda state: None) -> TrainingState:
    """A small training that tells of every step."""
    w_plus = motion(300)
    basis = fit_basis([w_plus], 16)
    state = new_state(tiny(STEPS), basis)
    features, index = basis.project(w_plus), WindowIndex([(0, 300)], state.config.window_frames)
    while state.step < STEPS:
        losses = train_step(state, features, index)
        if run is not None:
            run.log_metrics({name: float(value) for name, value in losses.items()}, state.step)
        then(state)
    return state


def weights_of(state: TrainingState) -> dict[str, Tensor]:
    return {
        f"{owner}.{name}": tensor
        for owner, module in state.modules().items()
        for name, tensor in module.state_dict().items()
    }


def require_equal_bits(one: TrainingState, other: TrainingState) -> None:
    a, b = weights_of(one), weights_of(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.fixture(scope="module")
def unlogged() -> TrainingState:
    torch.set_num_threads(1)
    return train(None)


def test_weights_are_the_same_with_a_server_that_is_absent_or_never_answers(
    unlogged: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            uri = f"http://127.0.0.1:{port}"
            run = open_run("motion", "name", "train", f"port-{port}", None, tmp_path, uri)
            require_equal_bits(train(run), unlogged)
            run.finish()


def test_server_and_job_are_killed_and_a_replay_completes_the_run(
    unlogged: TrainingState, tmp_path: Path
) -> None:
    database, port = f"sqlite:///{tmp_path / 'mlflow.db'}", free_port()
    address = f"http://127.0.0.1:{port}"
    artifacts, log = str(tmp_path / "mlartifacts"), tmp_path / "server.log"
    server = start_server(database, artifacts, port, log)
    try:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{KILLED}", address]
        job = subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread()
        )
        assert job.stdout is not None and job.stdout.readline() == "delivered\n"
        stop_server(server, signal.SIGKILL)
        job.communicate("\n", timeout=120)
        assert job.returncode == -signal.SIGKILL
        require_equal_bits(load_checkpoint(tmp_path / "checkpoint"), unlogged)

        absent = replay(tmp_path, address)
        assert absent.returncode == 2 and "Nothing is lost" in absent.stderr
        server = start_server(database, artifacts, port, log)
        waiting = replay(tmp_path, address, "--dry-run")
        assert waiting.returncode == 0 and "killed" in waiting.stdout and "bytes" in waiting.stdout
        for delivered in (1, 0):
            done = replay(tmp_path, address)
            assert done.returncode == 0, done.stderr
            assert f"runs delivered  {delivered}" in done.stdout
    finally:
        stop_server(server)
    client = MlflowClient(database)
    (run,) = client.search_runs([client.get_experiment_by_name("motion").experiment_id])
    history = client.get_metric_history(run.info.run_id, "critic")
    assert sorted(point.step for point in history) == list(range(1, STEPS + 1))
    assert run.info.status == "KILLED" and run.info.end_time >= history[-1].timestamp


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def replay(folder: Path, address: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs/replay.py"), "--tracking-uri", address, *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
