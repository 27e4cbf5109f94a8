"""The places of footage, and local copies of footage on S3; choosing.py resolves `--videos`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from svgan_ray.errors import StoreError, VideoError
from svgan_ray.store.backend import Entry
from svgan_ray.store.keys import source_id
from svgan_ray.store.node_cache import PARTIAL, cache_folder, made_once
from svgan_ray.store.s3 import S3Backend
from svgan_ray.video.landmarks import sidecar_path

__all__ = ["Source", "local_copy", "local_source", "s3_source", "unchanged_copy"]

CACHE_BYTES = 20 * 2**30
"""The size of the cache of S3 videos on a machine; the least recently used copies are removed first."""

_SLICE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Source:
    """A video file as it was when the job was planned; version is its modification time."""

    uri: str
    size_bytes: int
    version: str
    label: str | None = field(default=None, compare=False)
    """Whom it is assumed to show, if that is not its file name."""

    @property
    def subject(self) -> str:
        """Whom it is assumed to show if no flag says so."""
        return self.label or self.name

    @property
    def id(self) -> str:
        """The id under which the store records what this file held."""
        return source_id(self.uri, self.size_bytes, self.version)

    @property
    def name(self) -> str:
        """File name without its ending."""
        return PurePosixPath(self.uri).stem


def local_source(path: Path) -> Source:
    """The source of a file as it is now. Raises OSError."""
    status = path.stat()
    return Source(str(path), status.st_size, str(status.st_mtime_ns))


def s3_source(backend: S3Backend, entry: Entry) -> Source:
    """The source of an object as a listing describes it."""
    return Source(f"s3://{backend.bucket}/{entry.key}", entry.size_bytes, str(entry.modified_s))


def _bucket_and_key(uri: str) -> tuple[S3Backend, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return S3Backend(bucket, ""), key


def local_copy(source: Source) -> Path:
    """The source as a local file, with the landmarks beside it if there are any.

    Raises VideoError if the file is gone or has changed since the job was planned.
    """
    if source.uri.startswith("s3://"):
        return _download(source)
    path = Path(source.uri)
    _require_unchanged(source, _now(path))
    return path


@contextmanager
def unchanged_copy(source: Source) -> Iterator[Path]:
    """`local_copy` for the duration of the block that reads it.

    Also raises VideoError if the file changed meanwhile; what was read, or any other error, is then invalid.
    """
    path = local_copy(source)
    try:
        yield path
    finally:
        if str(path) == source.uri:  # nobody else changes a local copy of an S3 object
            _require_unchanged(source, _now(path))


def _now(path: Path) -> Source:
    try:
        return local_source(path)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}", "unreadable") from error


def _require_unchanged(planned: Source, now: Source | None) -> None:
    if now is None:
        raise VideoError(f"{planned.uri}: is gone since the job was planned", "unreadable")
    if now != planned:
        raise VideoError(f"{planned.uri}: changed while the job ran; run it again", "changed")


def _download(source: Source) -> Path:
    """Fetch the source once per machine; the copy becomes visible when it is complete."""
    folder = cache_folder("videos")
    copy = made_once(folder / source.id, Path.exists, lambda partial: _fetch(source, partial))
    os.utime(copy, ns=(time.time_ns(), time.time_ns()))  # this has a finer resolution than the kernel's clock
    return copy / source.uri.rpartition("/")[2]


def _fetch(source: Source, folder: Path) -> None:
    _make_room(folder.parent, source.size_bytes)
    try:
        _fetch_with_landmarks(source, folder / source.uri.rpartition("/")[2])
    except StoreError as error:  # the bucket of the footage is not the latent store
        raise VideoError(f"{source.uri}: cannot be fetched: {error}", "unreadable") from error


def _fetch_with_landmarks(source: Source, video: Path) -> None:
    backend, key = _bucket_and_key(source.uri)
    _require_unchanged(source, _on_s3_now(backend, key))
    _fetch_object(backend, key, source.size_bytes, video)
    _require_unchanged(source, _on_s3_now(backend, key))  # otherwise the copy may mix two versions
    landmarks = backend.stat(str(sidecar_path(key)))
    if landmarks is not None:
        _fetch_object(backend, landmarks.key, landmarks.size_bytes, sidecar_path(video))


def _on_s3_now(backend: S3Backend, key: str) -> Source | None:
    entry = backend.stat(key)
    return s3_source(backend, entry) if entry else None


def _fetch_object(backend: S3Backend, key: str, size_bytes: int, path: Path) -> None:
    with path.open("wb") as file:
        for first in range(0, size_bytes, _SLICE_BYTES):
            file.write(backend.get(key, first, min(first + _SLICE_BYTES, size_bytes)))


def _make_room(folder: Path, size_bytes: int) -> None:
    whole = (c for c in folder.iterdir() if c.is_dir() and c.suffix != PARTIAL)
    copies = sorted(whole, key=lambda c: c.stat().st_mtime)
    sizes = {copy: sum(file.stat().st_size for file in copy.iterdir()) for copy in copies}
    excess_bytes = sum(sizes.values()) + size_bytes - CACHE_BYTES
    for copy, size in sizes.items():
        if excess_bytes <= 0:
            return
        shutil.rmtree(copy, ignore_errors=True)  # a process that reads it still has the file open
        excess_bytes -= size
