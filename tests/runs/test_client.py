"""How MLflow's database comes into being."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient

from svgan_ray.runs.client import connect
from svgan_ray.runs.compat import _unsynced


def synchronous(database: Path) -> int:
    """SQLite's setting: 0 never waits for the disk, 2 does at the end of each transaction."""
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        return int(connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar_one())


def test_only_the_database_that_is_being_made_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    with _unsynced(tmp_path / "new.db"):
        assert synchronous(tmp_path / "new.db") == 0
        assert synchronous(tmp_path / "other.db") == 2
    assert synchronous(tmp_path / "new.db") == 2


def test_a_database_is_whole_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    named = Path.replace

    def replace(self: Path, target: Path) -> Path:
        with sqlite3.connect(self) as unfinished:
            seen.append(unfinished.execute("SELECT name FROM experiments").fetchall())
        return named(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert isinstance(client, MlflowClient) and seen == [[("Default",)]]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
