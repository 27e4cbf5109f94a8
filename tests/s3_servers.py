"""S3 servers for tests: each context manager starts one on loopback and yields the environment a client needs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

START_RGW = Path(__file__).parents[1] / "cluster" / "start_s3.sh"
RGW_TOOLS = ("radosgw", "ceph-mon", "ceph-osd", "curl")


@contextmanager
def moto_server() -> Iterator[dict[str, str]]:
    """moto over a socket: quick, knows If-None-Match, checks no signatures."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield _environment(f"http://{host}:{port}", "moto", "moto")
    finally:
        server.stop()


def rgw_is_missing() -> str:
    """Why the real server cannot be started here; empty where it can."""
    missing = [tool for tool in RGW_TOOLS if shutil.which(tool) is None]
    return f"no {', '.join(missing)}: apt-get install radosgw ceph-mon ceph-osd curl" if missing else ""


@contextmanager
def rgw_server() -> Iterator[dict[str, str]]:
    """Ceph's gateway, a real S3 server; about 14 s to start. Check `rgw_is_missing` before."""
    folder = Path(tempfile.mkdtemp(prefix="rgw-"))
    command = [str(START_RGW), str(folder), str(_free_port())]
    try:
        started = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=180)
        lines = started.stdout.splitlines()
        yield dict(line.split("=", 1) for line in lines)
    finally:
        for pid_file in folder.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)  # memory only: nothing to save
        shutil.rmtree(folder, ignore_errors=True)


def make_bucket(environment: Mapping[str, str], name: str) -> None:
    """Create a bucket on a server that one of the above started."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=name)
    client.close()


def _environment(url: str, access_key: str, secret_key: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _free_port() -> int:
    """A port that is free, as is the one 300 above it, which start_s3.sh takes too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if port + 300 < 65536:
                with suppress(OSError):
                    second.bind(("127.0.0.1", port + 300))
                    return port
