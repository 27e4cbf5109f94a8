"""`cluster/mlflow_server.sh`, which cluster/compose.yaml runs: it answers nothing without a password."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient

from svgan_ray.runs import open_run
from tests.free_port import free_port
from tests.postgres_server import postgres_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CLUSTER = Path(__file__).parents[2] / "cluster"
BIN = CLUSTER.parent / ".venv/bin"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "secrets"
    subprocess.run([CLUSTER / "make_secrets.sh", folder], check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def server(secrets: Path) -> Iterator[str]:
    """Its address; the database's password is the one that PostgreSQL was started with."""
    with postgres_server() as addresses:
        database = urlsplit(addresses["MLFLOW_DATABASE"])
        pgpass = Path(parse_qs(database.query)["passfile"][0]).read_text()
        (secrets / "postgres_password").unlink()
        (secrets / "postgres_password").write_text(pgpass.strip().rpartition(":")[2])
        port = str(free_port())
        address = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(database.port),
            "PGUSER": str(database.username),
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": port,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(secrets.with_name("artifacts")),
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port}",
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": address,
        }
        command = [CLUSTER / "mlflow_server.sh", database.path.strip("/"), secrets]
        with secrets.with_name("log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            deadline = time.monotonic() + 300
            while status(f"{address}/health") != 200:
                text = secrets.with_name("log").read_text()
                assert process.poll() is None and time.monotonic() < deadline, text
                time.sleep(0.5)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def status(url: str, **headers: str) -> int:
    with suppress(OSError):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return int(refusal.code)
    return 0


def test_nothing_is_told_without_the_password(server: str, secrets: Path) -> None:
    url = f"{server}/api/2.0/mlflow/experiments/get?experiment_id=0"
    password = (secrets / "mlflow_password").read_text()
    assert status(url) == 401
    assert status(url, Authorization=basic("0" * 64)) == 401
    assert status(url, Authorization=basic(password)) == 200
    assert status(url, Authorization=basic(password), Host="rebound.example") == 403
    arguments = subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, text=True, check=True).stdout
    said = arguments + secrets.with_name("log").read_text()
    names = ("postgres_password", "mlflow_password", "mlflow_secret_key")
    assert not [name for name in names if (secrets / name).read_text() in said]


def basic(password: str) -> str:
    return "Basic " + b64encode(f"svgan-ray:{password}".encode()).decode()


def test_a_job_with_the_credentials_file_leaves_its_run(
    server: str, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text((secrets / "mlflow_credentials").read_text())
    run = open_run("shared", "a run", "train", "identity", None, tmp_path / "spool", server)
    run.log_metrics({"loss": 0.5}, 1)
    run.finish()
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("shared")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.metrics == {"loss": 0.5} and run.info.status == "FINISHED"
