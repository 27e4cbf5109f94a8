"""Checks of a job's environment on the machine where it is started: working directory, TMPDIR, HOME."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from svgan_ray.errors import MachineError
from svgan_ray.runs import default_uri
from svgan_ray.runs.client import database_path

__all__ = ["Trouble", "require_sound_surroundings", "troubles"]

_SOCKET_BYTES = 107
"""The longest path of a socket on Linux."""
_RAY_BYTES = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""The length that Ray adds to the path of its temporary folder; process ids have up to seven digits."""
_MISREAD = frozenset("%?#")
"""Characters with a special meaning in a database address, which a file's name must not contain."""


@dataclass(frozen=True)
class Trouble:
    """A problem that would make the job fail later, and what helps."""

    found: str
    remedy: str


def require_sound_surroundings(starts_ray: bool) -> None:
    """Raise MachineError for the first problem, before anything starts."""
    for trouble in troubles(starts_ray):
        raise MachineError(f"{trouble.found}; {trouble.remedy}")


def troubles(starts_ray: bool) -> Iterator[Trouble]:
    """Problems that would make a job fail later; those of Ray only if the job starts its own Ray."""
    try:
        here = Path.cwd()
    except OSError as error:
        yield Trouble(f"the working directory is gone ({error.strerror})", "change to another one")
        return
    database = database_path(default_uri())
    if database is not None and (signs := sorted(_MISREAD & set(str(database)))):
        yield Trouble(
            f"{database}: MLflow cannot use a database whose path holds {' '.join(signs)}",
            f"start the job in another folder than {here}, or set MLFLOW_TRACKING_URI",
        )
    if starts_ray and os.environ.get("RAY_ADDRESS", "local") in ("", "local"):
        yield from _ray_troubles()


def _ray_troubles() -> Iterator[Trouble]:
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name) or "/tmp"
    if len(os.fsencode(folder)) + _RAY_BYTES > _SOCKET_BYTES:
        yield Trouble(
            f"{name} is {len(os.fsencode(folder))} bytes long, too long for the sockets of Ray",
            f"set RAY_TMPDIR to a path of at most {_SOCKET_BYTES - _RAY_BYTES} bytes, such as /tmp",
        )
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{name} {folder}: cannot be written ({error.strerror})"
        yield Trouble(found, f"set {name} to another folder")
    if (trouble := _home_trouble()) is not None:
        yield trouble


def _home_trouble() -> Trouble | None:
    """A HOME that cannot be written is a problem: Ray stores its token there unless RAY_AUTH_TOKEN is set."""
    token_variables = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if any(os.environ.get(name) for name in token_variables) or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return None
    home = Path(os.path.expanduser("~"))
    try:
        if (home / ".ray" / "auth_token").exists():
            return None
        with tempfile.TemporaryFile(dir=home / ".ray" if (home / ".ray").is_dir() else home):
            return None
    except OSError as error:
        return Trouble(
            f"HOME {home}: cannot be written ({error.strerror}), but Ray keeps its token there",
            "set HOME to a folder that can be written, or RAY_AUTH_TOKEN to 64 random hex digits",
        )
