"""Checks that MLflow answers, accepts this client and has a version that the client supports."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from svgan_ray.errors import MlflowError
from svgan_ray.runs.client import connect, database_path, without_password

__all__ = ["probe_mlflow"]

_TIMEOUT_S = 10


def probe_mlflow(uri: str) -> str:
    """Ask for the version and an experiment; returns the result as text. Raises MlflowError, with what to do.

    A missing SQLite database is not created.
    """
    database = database_path(uri)
    if database is not None and not database.exists():
        _require_writable(database.parent)
        return f"{database}: will be created on first use"
    from mlflow.exceptions import MlflowException

    shown = without_password(uri)
    try:
        version = f" {_server_version(uri)}" if urlsplit(uri).scheme in ("http", "https") else ""
        connect(uri).search_experiments(max_results=1)
    except (MlflowException, OSError, ValueError) as error:  # ValueError: the answer is not a version
        raise MlflowError(f"{shown}: {_reason(str(error))}") from error
    return f"{shown}: MLflow{version} answers"


def _server_version(uri: str) -> str:
    """The server's version. Raises MlflowError if it is older than this client, OSError if it is silent."""
    import mlflow
    import requests
    from packaging.version import Version

    answer = requests.get(f"{uri.rstrip('/')}/version", timeout=_TIMEOUT_S)
    if answer.status_code != 200:  # a proxy before MLflow refuses; the error of the search below tells why
        return ""
    theirs, ours = Version(answer.text.strip()), Version(mlflow.__version__)
    if (theirs.major, theirs.minor) < (ours.major, ours.minor):
        raise MlflowError(
            f"{without_password(uri)}: the server is MLflow {theirs}, older than this client's "
            f"{ours}; upgrade it, then run `mlflow db upgrade`, or runs may miss images and inputs"
        )
    return str(theirs)


def _require_writable(folder: Path) -> None:
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(standing, os.W_OK):
        raise MlflowError(f"{folder}: cannot be written; set MLFLOW_TRACKING_URI to a database or server")


def _reason(message: str) -> str:
    """A summary of MLflow's message, which itself may contain the address with its password."""
    if "401" in message or "403" in message:
        return (
            "the server refuses these credentials or this name; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, and name the server as its --allowed-hosts does"
        )
    if "out-of-date" in message or "alembic" in message.lower():
        return "the database was made by another version of MLflow; run `mlflow db upgrade` on it"
    if "onnection" in message or "timed out" in message or "Max retries" in message:
        return "no answer; start the server (make mlflow-ui) or mend MLFLOW_TRACKING_URI"
    return message.splitlines()[0]
