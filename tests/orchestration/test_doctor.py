"""Each check finds what it is there for: every failing case has the real cause."""

from __future__ import annotations

import http.server
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path

import pytest
import ray
from packaging.requirements import Requirement

from svgan_ray.config import DoctorConfig
from svgan_ray.orchestration import doctor as doctor_job
from svgan_ray.orchestration.doctor import DoctorReport
from svgan_ray.orchestration.doctor import run as doctor
from svgan_ray.orchestration.runtime import checks
from svgan_ray.orchestration.runtime.checks import (
    Check,
    check_disk,
    check_gpu,
    check_memory,
    check_mlflow,
    check_store,
    check_versions,
    check_video,
    check_weights,
)
from svgan_ray.orchestration.runtime.cluster_checks import check_submission
from svgan_ray.orchestration.runtime.command_line import run_job
from tests.jobs.conftest import ROOT
from tests.s3_servers import fault_proxy, moto_server


@contextmanager
def web_server(answers: dict[str, tuple[int, str]], token: str = "") -> Iterator[str]:
    """An HTTP server with a fixed answer for each path, 404 for the rest."""

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.get(self.path.partition("?")[0], (404, ""))
            if token and self.headers["Authorization"] != f"Bearer {token}":
                status, text = 401, ""
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *values: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def require(check: Check, state: str, *found: str, remedy: str = "") -> None:
    assert check.state == state, check
    for text in found:
        assert text in check.found, check
    assert remedy in check.remedy, check


# Versions, devices, decoders


def test_the_versions_installed_are_those_asked_for() -> None:
    require(
        check_versions(), "ok", "svgan-ray", f"Python {platform.python_version()}", "ray", "torch", "mlflow"
    )


def test_a_version_of_another_set_up_is_named(tmp_path: Path) -> None:
    package = tmp_path / "optuna-4.0.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: optuna\nVersion: 4.0.0\n")
    program = "from svgan_ray.orchestration.runtime.checks import check_versions; print(check_versions())"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200
    )
    [allowed] = [r.specifier for r in map(Requirement, requires("svgan-ray") or []) if r.name == "optuna"]
    assert "state='failed'" in done.stdout and f"optuna 4.0.0 where {allowed} is expected" in done.stdout


def test_a_gpu_that_torch_cannot_use(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        require(check_gpu(), "ok", torch.cuda.get_device_name())
        return
    require(check_gpu(tmp_path / "absent"), "note", "none")
    (tmp_path / "version").touch()
    require(check_gpu(tmp_path / "version"), "failed", "finds no GPU", remedy="TORCH_CUDA_INDEX")


def test_video_is_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    require(check_video(), "ok", "PyAV")
    monkeypatch.setitem(sys.modules, "av", None)
    require(check_video(), "failed", remedy="make setup")


# Memory, disk, weights


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    require(check_memory(), "ok", "GB free")
    monkeypatch.setattr(checks, "MIN_MEMORY_BYTES", 10**15)
    require(check_memory(), "failed", "GB free", remedy="are needed")


def test_a_machine_without_disk(tmp_path: Path) -> None:
    require(check_disk(1.0, (tmp_path,)), "ok", str(tmp_path))
    require(check_disk(1e18, (tmp_path,)), "failed", "GB free", remedy="--free-disk-gb")


def test_weights(tmp_path: Path, weights: Path) -> None:
    require(check_weights("demo"), "ok", "128 px")
    require(check_weights(str(weights)), "ok", "32 px")
    require(check_weights(str(tmp_path / "absent")), "failed", "no weights folder", remedy="docs/weights.md")
    (weights / "encoder" / "model.safetensors").rename(tmp_path / "kept")
    try:
        (weights / "encoder" / "model.safetensors").write_bytes((tmp_path / "kept").read_bytes()[:1000])
        require(check_weights(str(weights)), "failed", "damaged or truncated")
    finally:
        (tmp_path / "kept").replace(weights / "encoder" / "model.safetensors")


# Store


def test_a_store_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    require(check_store(str(tmp_path / "not" / "yet")), "ok", "create-if-absent")
    assert list(tmp_path.iterdir()) == []
    require(check_store("gs://bucket"), "failed", "expected a folder or s3://")


def test_a_folder_that_cannot_be_written() -> None:
    require(check_store("/proc/store"), "failed", "cannot write in /proc")


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    monkeypatch.setattr("svgan_ray.store.s3._ATTEMPTS", 2)
    with moto_server("latents") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment


def test_a_bucket(moto: dict[str, str], silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from svgan_ray.store.s3 import S3Backend

    require(check_store("s3://latents/a"), "ok", "create-if-absent")
    assert list(S3Backend("latents").list("")) == []
    require(check_store("s3://absent/a"), "failed", "the bucket does not exist")
    with fault_proxy(moto["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.refuse(403, "AccessDenied", times=9)
        require(check_store("s3://latents/a"), "failed", "s3:PutObject", remedy="docs/cluster.md")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent_port}")
    require(check_store("s3://latents/a"), "failed", "no answer from")


def test_a_server_that_overwrites_what_stands(moto: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As servers that do not know If-None-Match do: a proxy takes the header away."""
    with fault_proxy(moto["AWS_ENDPOINT_URL"]) as proxy:
        proxy.drops_header = "If-None-Match"
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        require(check_store("s3://latents/a"), "failed", "overwrites what stands")


# MLflow


def test_a_database_is_made_on_first_use_only(tmp_path: Path, mlflow_uri: str) -> None:
    require(check_mlflow(f"sqlite:///{tmp_path}/mlflow.db"), "ok", "will be created on first use")
    assert list(tmp_path.iterdir()) == []
    require(check_mlflow(mlflow_uri), "ok", "answers")


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"/version": (200, "2.9.2")}, "MLflow 2.9.2, older than this client's"),
        ({"/version": (200, "<html>")}, "Invalid version"),
        (
            {"/version": (401, "who?"), "/api/2.0/mlflow/experiments/search": (401, "")},
            "refuses these credentials",
        ),
    ],
)
def test_an_mlflow_server_that_is_older_or_refuses(answers: dict[str, tuple[int, str]], found: str) -> None:
    with web_server(answers) as address:
        require(check_mlflow(address), "failed", found)


def test_an_mlflow_server_that_is_gone_and_a_password_that_stays_private(silent_port: int) -> None:
    check = check_mlflow(f"http://anna:planted-password@127.0.0.1:{silent_port}")
    require(check, "failed", "no answer", remedy="MLFLOW_TRACKING_URI")
    assert "planted-password" not in str(check)


# Ray, seen from a submitter


def test_clusters_that_are_gone_open_closed_or_of_another_version(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ours")
    gone = check_submission(f"http://127.0.0.1:{silent_port}")
    require(gone, "failed", "does not answer", remedy="cluster-up")

    def answers(version: str) -> dict[str, tuple[int, str]]:
        return {"/api/version": (200, json.dumps({"version": "4", "ray_version": version}))}

    with web_server(answers(ray.__version__)) as address:
        require(check_submission(address), "failed", "asks for no token", remedy="RAY_AUTH_MODE=token")
    with web_server(answers(ray.__version__), token="theirs") as address:
        require(check_submission(address), "failed", "refuses this token", remedy="RAY_AUTH_TOKEN")
    with web_server(answers("2.9.0"), token="ours") as address:
        require(check_submission(address), "failed", "runs Ray 2.9.0, this is", remedy="ray==2.9.0")
    with web_server(answers(ray.__version__), token="ours") as address:
        require(check_submission(address), "ok", "token accepted")


# The whole


def test_the_report_is_a_line_a_check_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = (Check("disk", "ok", "9 GB free", machine="one"), Check("ray", "failed", "gone", "start it"))
    monkeypatch.setattr(doctor_job, "cluster_checks", lambda config: list(found))
    monkeypatch.setenv("COLUMNS", "160")
    assert run_job(DoctorConfig, doctor, argv=[]) == 1
    printed = capsys.readouterr().out
    assert "FAILED  ray" in printed and "start it" in printed and "1 of 2 checks failed" in printed
    assert DoctorReport(found[:1]).exit_code == 0


@pytest.mark.cluster
def test_exit_0_where_the_embedded_default_works(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "doctor.py"), "--free-disk-gb", "0.1"],
        cwd=tmp_path,
        env=environment | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jobs can run here" in done.stdout and "starts on this machine: 1 machines" in done.stdout
    assert list(tmp_path.iterdir()) == []
