"""Clients of MLflow: of a server or of a SQLite database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from svgan_ray.runs import compat

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
    """A client that gives up soon; a missing SQLite database is created."""
    database = database_path(uri)
    # The spool retries for as long as it takes; the client must give up soon, so that `flush` can report it.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_REQUEST_TIMEOUT_S))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    compat.quiet()
    if database is not None and not database.exists():
        compat.make_database(database)
    return MlflowClient(uri)


def without_password(uri: str) -> str:
    """The address without user:password@, for use in messages."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
