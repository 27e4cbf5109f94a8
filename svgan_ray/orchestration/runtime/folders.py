"""Folders that jobs share: models, and the checkpoints that Ray writes, on a disk or on S3."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.runs import default_uri
from svgan_ray.runs.registry import REGISTRY, fetch_model
from svgan_ray.store.backend import Backend, ObjectNotFoundError
from svgan_ray.store.folder import FolderBackend

__all__ = [
    "filesystem",
    "folder_backend",
    "local_file",
    "model_folder",
    "publish_folder",
    "publish_model",
    "read_record",
    "write_record",
]

_RECORD = "model.json"


def local_file(path: str, flag: str) -> Path:
    """The path of a local file that the job writes. Raises ConfigError if it is not a local path."""
    if "://" in path:
        raise ConfigError(f"{flag} {path}: expected a local file")
    return Path(durable(path, flag))


def filesystem(uri: str) -> tuple[Any, str]:
    """The pyarrow file system of a URI (None: the local one) and the path in it, as Ray expects them."""
    if not uri.startswith("s3://"):
        return None, uri
    from pyarrow.fs import PyFileSystem

    from svgan_ray.orchestration.runtime.s3_filesystem import S3Handler  # boto3 is not for who has a folder

    return PyFileSystem(S3Handler()), uri.removeprefix("s3://")


def read_record(folder: str, name: str) -> dict[str, Any] | None:
    """A small JSON object beside the checkpoints, or None if it does not exist."""
    try:
        record: dict[str, Any] = json.loads(folder_backend(folder).get(name))
        return record
    except ObjectNotFoundError:
        return None


def write_record(folder: str, name: str, record: dict[str, Any]) -> None:
    """Write a small JSON object atomically."""
    folder_backend(folder).put(name, json.dumps(record, indent=2).encode())


def publish_folder(folder: Path, uri: str, record: str) -> None:
    """Copy a folder to a place. Its old `record` is removed first and the new one written last, so that a
    reader never sees a mixture of two folders.
    """
    backend = folder_backend(uri)
    backend.delete(record)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == record):
        backend.put(path.name, path.read_bytes())


def publish_model(folder: Path, uri: str) -> None:
    """Copy a model's folder to S3."""
    publish_folder(folder, uri, _RECORD)


@contextmanager
def model_folder(uri: str) -> Iterator[Path]:
    """A model's folder on this machine; one from S3 or the registry is a temporary copy for the block."""
    if uri.startswith(REGISTRY):
        with tempfile.TemporaryDirectory() as folder:
            yield fetch_model(default_uri(), uri, Path(folder))
        return
    backend = folder_backend(uri)
    if backend.stat(_RECORD) is None:
        raise WeightsError(f"{uri} holds no motion model: there is no {_RECORD}; jobs/train.py makes one")
    if not uri.startswith("s3://"):
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory() as folder:
        for entry in backend.list(""):
            if "/" not in entry.key:
                Path(folder, entry.key).write_bytes(backend.get(entry.key))
        yield Path(folder)


def folder_backend(uri: str) -> Backend:
    """The storage backend of a local folder or s3://bucket/prefix."""
    if not uri.startswith("s3://"):
        return FolderBackend(Path(uri))
    from svgan_ray.store.s3 import S3Backend  # boto3 is imported only if it is needed

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return S3Backend(bucket, prefix)
