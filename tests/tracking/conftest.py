"""A tracked run in a private folder, and what MLflow holds of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svgan_ray.tracking import open_tracker
from svgan_ray.tracking.tracker import SpooledTracker
from tests.tracking_database import make_tracking_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take seconds: they run once."""
    database = make_tracking_database(tmp_path_factory.mktemp("database"))
    MlflowClient(f"sqlite:///{database}").delete_experiment("1")
    return database


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def open_run(tmp_path: Path, uri: str) -> Callable[..., SpooledTracker]:
    """Opens a training run in the test's own database and spool."""

    def open_it(identity: str = "run", parent: str | None = None, uri: str = uri) -> SpooledTracker:
        spool_dir = tmp_path / "spool"
        return open_tracker("motion", f"run {identity}", "train", identity, parent, spool_dir, uri)

    return open_it
