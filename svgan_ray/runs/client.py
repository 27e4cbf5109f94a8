"""Clients of MLflow: of a server or of a SQLite database."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["artifact_root", "connect", "database_path", "without_password"]

_REQUEST_TIMEOUT_S = 20


def database_path(uri: str) -> Path | None:
    """The file of a SQLite address; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def artifact_root(uri: str) -> Path | None:
    """The artifact folder beside a SQLite database; a server has its own root (None)."""
    database = database_path(uri)
    return database.with_name("mlartifacts") if database else None


def connect(uri: str) -> MlflowClient:
    """A client that gives up soon; a SQLite database that is not there is made."""
    database = database_path(uri)
    # The spool retries for as long as it takes; the client must give up soon, so that a flush can tell.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_REQUEST_TIMEOUT_S))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    if database is not None and not database.exists():
        # MLflow cannot open a database whose creation (seconds of migrations) was cut short: make it aside.
        unfinished = database.with_name(f"{database.name}.part")
        unfinished.unlink(missing_ok=True)
        with _unsynced(unfinished):
            MlflowClient(f"sqlite:///{unfinished}")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(database)
    return MlflowClient(uri)


@contextmanager
def _unsynced(database: Path) -> Iterator[None]:
    """No transaction of this database waits for the disk: a thousand of them take minutes on a slow one."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def begin(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):  # other threads may connect elsewhere meanwhile
            (_, _, file), *_ = connection.execute("PRAGMA database_list")
            if file == str(database):
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", begin)
    try:
        yield
    finally:
        event.remove(Engine, "connect", begin)


def without_password(uri: str) -> str:
    """user:password@ never reaches a message."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
