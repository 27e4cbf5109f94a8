"""S3 servers for tests, on loopback: each context manager yields the environment that a client needs."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START_RGW = Path(__file__).parents[1] / "cluster" / "start_s3.sh"
RGW_TOOLS = ("radosgw", "ceph-mon", "ceph-osd", "curl")


@contextmanager
def moto_server(bucket: str) -> Iterator[dict[str, str]]:
    """moto over a socket, with a bucket: it is quick, knows If-None-Match, and checks no signatures."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = _environment(f"http://{host}:{port}", "moto", "moto")
        make_bucket(environment, bucket)
        yield environment
    finally:
        server.stop()


def rgw_is_missing() -> str:
    """Why the real server cannot be started here; empty where it can."""
    missing = [tool for tool in RGW_TOOLS if shutil.which(tool) is None]
    return f"no {', '.join(missing)}: apt-get install radosgw ceph-mon ceph-osd curl" if missing else ""


@contextmanager
def rgw_server(address: str = "127.0.0.1", others: tuple[str, ...] = ()) -> Iterator[dict[str, str]]:
    """Ceph's gateway, a real S3 server; about 14 s to start. Check `rgw_is_missing` before.

    Each of `others` is one more user, who may do nothing yet and whose two keys are his name.
    """
    folder = Path(tempfile.mkdtemp(prefix="rgw-"))
    command = [str(START_RGW), str(folder), str(_free_port()), address]
    try:
        started = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=180)
        lines = started.stdout.splitlines()
        for name in others:
            admin = ["radosgw-admin", "-c", str(folder / "ceph.conf"), "user", "create", f"--uid={name}"]
            keys = [f"--display-name={name}", f"--access-key={name}", f"--secret-key={name}"]
            subprocess.run([*admin, *keys], check=True, capture_output=True, timeout=60)
        yield dict(line.split("=", 1) for line in lines)
    finally:
        for pid_file in folder.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)  # memory only: nothing to save
        shutil.rmtree(folder, ignore_errors=True)


def make_bucket(environment: Mapping[str, str], name: str) -> None:
    """Create a bucket on a server that one of the above started."""
    with _client(environment) as client:
        client.create_bucket(Bucket=name)


def deny(environment: Mapping[str, str], uri: str, *actions: str) -> None:
    """Forbid everybody, the owner too, some actions on the bucket of a store."""
    bucket = uri.removeprefix("s3://").partition("/")[0]
    places = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": places}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    with _client(environment) as client:
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


@contextmanager
def _client(environment: Mapping[str, str]) -> Iterator[Any]:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    try:
        yield client
    finally:
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


class FaultProxy(ThreadingHTTPServer):
    """An HTTP proxy on loopback that passes requests on, less those that a test wants broken."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.broken = 0
        self.drops_header = ""
        """A request header that is not passed on, as by servers that do not know it."""
        self._faults: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def break_next(self, fault: str, times: int = 1, method: str = "") -> None:
        """Break requests (of one method): slow_down (503), slow, reset, cut_body, lose_answer (done)."""
        with self._lock:
            self._faults += [(fault, method)] * times

    def refuse(self, status: int, code: str, times: int = 1) -> None:
        """Answer the next requests with an S3 error."""
        self.break_next(f"{status} {code}", times)

    def clear(self) -> None:
        """Pass everything on from here."""
        with self._lock:
            self._faults.clear()

    def take_fault(self, method: str) -> str:
        """The fault for a request that came in, empty for none."""
        with self._lock:
            if not self._faults or self._faults[0][1] not in ("", method):
                return ""
            self.broken += 1
            return self._faults.pop(0)[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up on broken answers: no news."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.take_fault(self.command)
        if fault == "reset":
            return self._hang_up()
        if fault == "slow":
            time.sleep(1)
        elif fault and fault not in ("cut_body", "lose_answer"):
            status, _, code = fault.replace("slow_down", "503 SlowDown").partition(" ")
            detail = "<Message>by the test</Message><Region>eu-west-1</Region>"
            text = f"<Error><Code>{code}</Code>{detail}</Error>".encode()
            return self._answer(int(status), {"Content-Type": "application/xml"}, text, len(text))
        status_code, headers, answer = self._upstream(body)
        if fault == "lose_answer":
            return self._hang_up()
        self._answer(
            status_code, headers, answer[: len(answer) // 2] if fault == "cut_body" else answer, len(answer)
        )
        if fault == "cut_body":
            self._hang_up()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on  # noqa: N815

    def _upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream.removeprefix("http://"), timeout=60)
        try:
            headers = dict(self.headers.items())
            headers.pop(self.server.drops_header, None)
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            return response.status, dict(response.getheaders()), answer
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], answer: bytes, size_bytes: int) -> None:
        self.send_response(status)
        size_bytes = int(headers.get("Content-Length", size_bytes)) if self.command == "HEAD" else size_bytes
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(size_bytes))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _hang_up(self) -> None:
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, format: str, *values: object) -> None:
        """Tests are quiet."""


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A FaultProxy before the server at this URL, running."""
    proxy = FaultProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
