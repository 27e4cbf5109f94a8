"""Checks, before a job begins and in a dry run, that everything can be written that it will write."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svgan_ray.config import SampleConfig
from svgan_ray.errors import ConfigError, StoreError
from svgan_ray.orchestration.runtime.folders import folder_backend
from svgan_ray.places import Place, declared

__all__ = ["check_outputs", "require_writable_folder"]

SPOOL = "mlspool"
"""The folder in the working directory in which the events of runs wait."""
_SQLITE = "sqlite:///"
_NAME_BYTES = 255
"""The longest file name that common file systems allow."""


def check_outputs(config: Any) -> None:
    """Raise ConfigError, which names the flag, for a place that the job cannot write to.

    Nothing is left behind: the check makes a file without a name in the nearest folder that exists; on S3 it
    writes an object and deletes it again.
    """
    for name, mark in declared(type(config)).items():
        value = getattr(config, name)
        if not isinstance(mark, Place) or mark.use == "input" or value is None:
            continue
        flag = f"--{name.replace('_', '-')} {value}"
        if mark.use == "database":
            if value.startswith(_SQLITE):
                _require_writable_file(value.removeprefix(_SQLITE), flag)
        elif mark.use == "file" and not _makes_a_folder(config):
            _require_writable_file(value, flag)
        elif value.startswith("s3://"):
            _require_writable_prefix(value, flag)
        else:
            require_writable_folder(Path(value), flag)
    if hasattr(config, "experiment"):
        flag = f"{SPOOL} in the working directory, for the run's events"
        require_writable_folder(Path(SPOOL), flag, "start the job in another folder")


def require_writable_folder(folder: Path, flag: str, remedy: str = "name another place") -> None:
    """Raise ConfigError unless files can be made in a folder, which need not exist yet."""
    try:
        _require_short(folder, flag)
        nearest = next(place for place in _upwards(folder.absolute()) if os.path.lexists(place))
        if not nearest.is_dir():
            raise ConfigError(f"{flag}: cannot be written: {nearest} is not a folder; {remedy}")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ConfigError(f"{flag}: cannot be written: {error.strerror}; {remedy}") from error


def _require_writable_file(path: str, flag: str) -> None:
    if "://" in path:
        raise ConfigError(f"{flag}: expected a local file")
    try:
        is_folder = path.endswith("/") or Path(path).is_dir()
    except OSError as error:
        raise ConfigError(f"{flag}: cannot be written: {error.strerror}; name another place") from error
    if is_folder:
        raise ConfigError(f"{flag}: is a folder; name a file")
    _require_short(Path(path), flag)
    require_writable_folder(Path(path).absolute().parent, flag)


def _require_writable_prefix(uri: str, flag: str) -> None:
    """Check an S3 prefix: an object is written there and deleted."""
    key = f"{SPOOL}-{uuid.uuid4().hex}"
    try:
        backend = folder_backend(uri)
        backend.put(key, b"")
        backend.delete(key)
    except StoreError as error:
        raise ConfigError(f"{flag}: cannot be written: {error}") from error


def _require_short(path: Path, flag: str) -> None:
    for part in path.parts:
        if len(os.fsencode(part)) > _NAME_BYTES:
            raise ConfigError(f"{flag}: cannot be written: a name in it is longer than {_NAME_BYTES} bytes")


def _makes_a_folder(config: Any) -> bool:
    return isinstance(config, SampleConfig) and config.makes_a_folder


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents
