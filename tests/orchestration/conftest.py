"""What tests of several jobs share: footage, an MLflow database, a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.footage import make_bad_videos, make_video, make_weights
from tests.mlflow_database import make_mlflow_database
from tests.s3_servers import moto_server


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a database that exists."""
    return f"sqlite:///{make_mlflow_database(tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks of 32 px; see tests/footage.py."""
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound videos, one longer than a block, and four bad ones."""
    folder = tmp_path_factory.mktemp("footage")
    make_video(folder / "anna.mp4", 150, seed=1)
    make_video(folder / "ben.mp4", 40, seed=2)
    make_bad_videos(folder / "bad")
    return folder


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_uri: str) -> Path:
    """A working directory of the test's own; its runs go to the shared database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    return tmp_path


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """An S3 server with the bucket `motion`."""
    with moto_server("motion") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="module")
def ray_of_two_cpus(s3: dict[str, str]) -> Iterator[None]:
    """A local cluster of this process, whose workers inherit the address of the S3 server."""
    import ray

    ray.init("local", num_cpus=2, object_store_memory=150_000_000, logging_level="WARNING")
    yield
    ray.shutdown()
