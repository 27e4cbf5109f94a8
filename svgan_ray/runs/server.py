"""A local MLflow server, hardened: `python -m svgan_ray.runs.server`.

It listens on the loopback interface or, with --host, on a private address. It answers only to its own name
(against DNS rebinding), accepts requests only from its own pages (CORS) and runs no jobs. To share a server
more widely, put MLflow behind TLS and passwords.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from svgan_ray.errors import ConfigError, MlflowError
from svgan_ray.runs import compat
from svgan_ray.runs.client import artifact_root, connect
from svgan_ray.runs.local_run import default_uri

__all__ = ["free_port", "page_url", "serve", "start_server", "stop_server"]

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 10.0


def page_url(server: str, experiment_id: str | None = None, run_id: str | None = None) -> str:
    """The page of a run, of an experiment's runs, or of all experiments."""
    return f"{server}/{compat.page(experiment_id or '', run_id or '')}"


def start_server(
    backend_uri: str, artifacts: str, port: int, log: Path | None = None, host: str = _HOST
) -> subprocess.Popen[bytes]:
    """Start the server in its own process session and return when it answers; `stop_server` ends it.

    `artifacts` is the folder (or s3:// address) that clients of this server write new artifacts to. Raises
    ConfigError if the port is taken or the address is public, and MlflowError if the server does not start.
    """
    _require_private(host)
    _require_free(host, port)
    own_names = [f"{name}:{port}" for name in (host, "localhost")]
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--default-artifact-root", artifacts, "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ",".join(own_names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}" for name in own_names)]
    hardened = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    database = {"MLFLOW_BACKEND_STORE_URI": backend_uri}  # it may hold a password, which arguments would show
    with log.open("ab") if log else contextlib.nullcontext() as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **hardened, **database},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(f"http://{host}:{port}", process)
    except BaseException:
        stop_server(process)
        raise
    return process


def stop_server(process: subprocess.Popen[bytes], with_signal: signal.Signals = signal.SIGTERM) -> None:
    """End the server and the workers that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, with_signal)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def serve(
    backend_uri: str, artifacts: str, port: int | None = None, log: Path | None = None, host: str = _HOST
) -> Iterator[str]:
    """Run a server during a `with` block and yield its address; without a port it takes a free one."""
    port = free_port() if port is None else port
    process = start_server(backend_uri, artifacts, port, log, host)
    try:
        yield f"http://{host}:{port}"
    finally:
        stop_server(process)


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _require_private(host: str) -> None:
    is_private = False
    with contextlib.suppress(ValueError):  # a name may resolve to any address, so it is refused
        address = ipaddress.ip_address(host)
        is_private = address.is_private and not address.is_unspecified
    if not is_private:
        raise ConfigError(
            f"--host {host}: expected 127.0.0.1 or a private address of this machine; this server has no "
            "passwords, but the one of cluster/compose.yaml has"
        )


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise ConfigError(
                f"--port {port}: something listens there already; open it, or choose another port"
            )


def _wait_until_healthy(server: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server}/health", timeout=2):
            return
        if process.poll() is not None:
            raise MlflowError(
                f"the MLflow server ended with code {process.returncode}; its own output says why"
            )
        time.sleep(0.2)
    raise MlflowError(f"the MLflow server at {server} did not answer within {_START_TIMEOUT_S:.0f} s")


def _newest_experiment(server: str) -> str | None:
    """The experiment of the latest run."""
    client = connect(server)
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(places, order_by=["attributes.start_time DESC"], max_results=1)
    return runs[0].info.experiment_id if runs else None


def _has_screen() -> bool:
    """Whether a browser can show something; one in a terminal cannot show MLflow's page."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m svgan_ray.runs.server", description=__doc__)
    parser.add_argument("--uri", default=default_uri(), help="database (default: %(default)s)")
    parser.add_argument(
        "--artifacts", default="", help="folder of new artifacts (default: mlartifacts beside the database)"
    )
    parser.add_argument("--port", type=int, default=5000, help="port (default: %(default)s)")
    parser.add_argument(
        "--host", default=_HOST, help="private address to listen on (default: %(default)s, this machine only)"
    )
    options = parser.parse_args(arguments)
    artifacts = options.artifacts or str(artifact_root(options.uri) or "mlartifacts")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with serve(options.uri, artifacts, options.port, host=options.host) as server:
            page = page_url(server, _newest_experiment(server))
            print(f"MLflow is up: {page}  (Ctrl+C ends it)", flush=True)
            if _has_screen():
                webbrowser.open(page)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except (ConfigError, MlflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
