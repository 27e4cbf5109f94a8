"""The places that every test of the store runs over."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.backend import Backend
from svgan_ray.store.folder import FolderBackend
from tests.s3_servers import make_bucket, moto_server, rgw_is_missing, rgw_server
from tests.store.memory import MemoryBackend

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

S3_PLACES = ["moto", pytest.param("rgw", marks=pytest.mark.cluster)]


@pytest.fixture(scope="session")
def moto_environment() -> Iterator[dict[str, str]]:
    with moto_server("tests") as environment:
        yield environment


@pytest.fixture(scope="session")
def rgw_environment() -> Iterator[dict[str, str]]:
    if reason := rgw_is_missing():
        pytest.skip(reason)
    with rgw_server() as environment:
        make_bucket(environment, "tests")
        yield environment


@pytest.fixture
def s3_environment(
    place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment of the server that `place` names, in force during the test."""
    environment: dict[str, str] = request.getfixturevalue(f"{place}_environment")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def store_uri(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be made, unused so far."""
    if place == "folder":
        return str(tmp_path / "store")
    request.getfixturevalue("s3_environment")
    return f"s3://tests/{uuid.uuid4().hex}"


@pytest.fixture
def store(store_uri: str) -> LatentStore:
    return open_store(store_uri, create=True)


@pytest.fixture
def backend(place: str, request: pytest.FixtureRequest) -> Backend:
    if place == "memory":
        return MemoryBackend()
    if place == "folder":
        return FolderBackend(request.getfixturevalue("tmp_path") / "store")
    request.getfixturevalue("s3_environment")
    from svgan_ray.store.s3 import S3Backend

    return S3Backend("tests", uuid.uuid4().hex)
