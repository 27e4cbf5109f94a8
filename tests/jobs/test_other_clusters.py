"""Clusters and servers that do not suit the job: its first lines say what is wrong and what helps."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from ray.util import get_node_ip_address

from svgan_ray.orchestration.runtime.checks import check_mlflow
from svgan_ray.runs.server import serve
from tests.footage import make_video, make_weights
from tests.free_port import free_port
from tests.jobs.conftest import ROOT, Head

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

AS_ANOTHER_VERSION = """
import runpy, sys
import ray, ray._private.utils as utils
utils.compute_version_info = lambda: ({ray}, {python})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    make_video(folder / "footage" / "anna.mp4", 40)
    make_weights(folder / "weights")
    return folder


def invert(work: Path, head: Head, program: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
    """Exit code and output of an inversion that this process starts on the head's cluster."""
    flags = ("--videos", "footage", "--weights", "weights", "--actors", "1")
    return job(work, head, *program, str(ROOT / "jobs" / "invert.py"), *flags, **environment)


def job(work: Path, head: Head, *command: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of what Python runs here as a job on the head's cluster."""
    ours = {name: value for name, value in head.environment.items() if name != "RAY_API_SERVER_ADDRESS"}
    address = {
        "RAY_ADDRESS": f"127.0.0.1:{head.environment['SVGAN_RAY_HEAD_PORT']}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the head listens on loopback alone
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=work,
        env=ours | address | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


def test_a_wrong_token_and_none_are_refused(head: Head, work: Path) -> None:
    """At the same time, as Ray takes long to give up."""
    wrong, none = {"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}
    with ThreadPoolExecutor() as threads:
        for code, printed in threads.map(
            lambda environment: invert(work, head, **environment), (wrong, none)
        ):
            assert code == 2, printed
            assert "the cluster does not let us in; set RAY_AUTH_MODE=token" in printed


def test_the_doctor_names_a_cluster_that_lets_everybody_in(work: Path, tmp_path: Path) -> None:
    """Started without the files in `cluster/`; who has a token is let in as well."""
    with open_head(tmp_path) as head:
        doctor = (str(ROOT / "jobs" / "doctor.py"), "--free-disk-gb", "0.1")
        code, printed = job(
            work, head, *doctor, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64, COLUMNS="300"
        )
    assert code == 1, printed
    assert "it asks for no token: everybody who reaches it can run code there" in printed


@contextmanager
def open_head(folder: Path) -> Iterator[Head]:
    """A head as `ray start` makes it in an environment that says nothing of tokens."""
    scratch = Path(tempfile.mkdtemp(prefix="sr-"))  # short: Ray puts sockets in it
    port, dashboard_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
    flags = ["--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-port={dashboard_port}"]
    flags += [f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={scratch}", "--num-cpus=1"]
    flags += ["--include-dashboard=true", "--object-store-memory=100000000", "--disable-usage-stats"]
    command = [str(ROOT / ".venv/bin/ray"), "start", "--head", "--block", *flags]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{dashboard_port}/api/version"):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()
            time.sleep(0.5)
        yield Head(folder, "", environment | {"SVGAN_RAY_HEAD_PORT": str(port)})
    finally:
        process.terminate()
        process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


@pytest.mark.skipif(get_node_ip_address() == "127.0.0.1", reason="this machine has no other address")
def test_a_cluster_on_loopback_alone_is_named_at_once(head: Head, work: Path) -> None:
    code, printed = invert(work, head, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1")
    assert code == 2, printed
    assert "listens on loopback alone" in printed and "ray job submit" in printed


@pytest.mark.parametrize(
    ("ray", "python", "ours"),
    [
        ("'2.59.0'", "utils.sys.version.split()[0]", "Ray 2.59.0 on"),
        ("ray.__version__", "'3.10.4'", "Python 3.10.4"),
    ],
)
def test_other_versions_than_the_clusters(head: Head, work: Path, ray: str, python: str, ours: str) -> None:
    code, printed = invert(work, head, ("-c", AS_ANOTHER_VERSION.format(ray=ray, python=python)))
    assert code == 2, printed
    [line] = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "the cluster runs Ray" in line and ours in line.partition("this is")[2]


class OlderServer(BaseHTTPRequestHandler):
    """Passes requests on to an MLflow server, which answers as an older one when asked for its version."""

    upstream = ""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = requests.request(
            self.command, self.upstream + self.path, data=body, headers=headers, timeout=60
        )
        content = b"2.22.0" if self.path == "/version" else answer.content
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

    def log_message(self, format: str, *values: object) -> None: ...


@pytest.fixture
def older_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serve(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"), log=tmp_path / "log") as real:
        monkeypatch.setattr(OlderServer, "upstream", real)
        server = ThreadingHTTPServer(("127.0.0.1", 0), OlderServer)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_older_mlflow_server_is_named_and_stops_nothing(head: Head, work: Path, older_mlflow: str) -> None:
    complaint = "the server is MLflow 2.22.0, older than this client's"
    assert complaint in check_mlflow(older_mlflow).found
    code, printed = invert(work, head, MLFLOW_TRACKING_URI=older_mlflow)
    assert code == 0, printed
    first, _, _ = printed.partition("1 clips committed")
    assert f"warning: MLflow: {older_mlflow}: {complaint}" in first
