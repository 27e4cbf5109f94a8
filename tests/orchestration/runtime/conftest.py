"""A server of S3 for the tests of this folder, a proxy with faults before it, and an unused folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.s3_servers import FaultProxy, fault_proxy, moto_server


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with moto_server("runs") as environment:
        yield environment


@pytest.fixture
def proxy(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The server, reached through a proxy."""
    with fault_proxy(server["AWS_ENDPOINT_URL"]) as proxy:
        for name, value in (server | {"AWS_ENDPOINT_URL": proxy.url}).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def place(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An unused folder in the bucket, as Ray names it."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return f"runs/{uuid.uuid4().hex}"
