"""A run in a private folder, and what MLflow holds of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svgan_ray.runs import open_run
from svgan_ray.runs.local_run import LocalRun
from tests.mlflow_database import make_mlflow_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take seconds: they run once."""
    database = make_mlflow_database(tmp_path_factory.mktemp("database"))
    MlflowClient(f"sqlite:///{database}").delete_experiment("1")
    return database


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def open_training_run(tmp_path: Path, uri: str) -> Callable[..., LocalRun]:
    """Opens a training run in the test's own database and spool."""

    def open_it(identity: str = "run", parent: str | None = None, uri: str = uri) -> LocalRun:
        spool_dir = tmp_path / "spool"
        return open_run("motion", f"run {identity}", "train", identity, parent, spool_dir, uri)

    return open_it
