"""Clusters and servers that do not suit the job: its first lines say what is wrong and what helps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from ray.util import get_node_ip_address

from svgan_ray.orchestration.doctor.checks import check_tracking
from svgan_ray.tracking.server import serve
from tests.footage import make_video, make_weights
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
    """Exit code and output of a job that this process starts on the head's cluster."""
    ours = {name: value for name, value in head.environment.items() if name != "RAY_API_SERVER_ADDRESS"}
    address = {
        "RAY_ADDRESS": f"127.0.0.1:{head.environment['SVGAN_RAY_HEAD_PORT']}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the head listens on loopback alone
        "PYTHONPATH": str(ROOT),
    }
    flags = ("--videos", "footage", "--weights", "weights", "--actors", "1")
    done = subprocess.run(
        [sys.executable, *program, str(ROOT / "jobs" / "invert.py"), *flags],
        cwd=work,
        env=ours | address | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "environment", [{"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}], ids=["wrong", "none"]
)
def test_a_token_that_the_cluster_refuses(head: Head, work: Path, environment: dict[str, str]) -> None:
    code, printed = invert(work, head, **environment)
    assert code == 2, printed
    assert "the cluster does not let us in; set RAY_AUTH_MODE=token" in printed


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


def test_an_older_tracking_server_is_named_and_stops_nothing(
    head: Head, work: Path, older_mlflow: str
) -> None:
    complaint = "the server is MLflow 2.22.0, older than this client's"
    assert complaint in check_tracking(older_mlflow).found
    code, printed = invert(work, head, MLFLOW_TRACKING_URI=older_mlflow)
    assert code == 0, printed
    first, _, _ = printed.partition("1 clips committed")
    assert f"warning: tracking: {older_mlflow}: {complaint}" in first
