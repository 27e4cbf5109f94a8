"""Where footage is, and a local copy of what lies on S3; choosing.py tells what `--videos` means."""

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
"""Copies of S3 videos that a machine keeps; the least recently used go first."""

_SLICE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Source:
    """A video file as it was when the job was planned; version is its modification time."""

    uri: str
    size_bytes: int
    version: str
    label: str | None = field(default=None, compare=False)
    """Whom it is taken to show, where its name does not tell."""

    @property
    def subject(self) -> str:
        """Whom it is taken to show where nobody says so."""
        return self.label or self.name

    @property
    def id(self) -> str:
        """Id under which the store remembers what this file held."""
        return source_id(self.uri, self.size_bytes, self.version)

    @property
    def name(self) -> str:
        """File name without its ending."""
        return PurePosixPath(self.uri).stem


def local_source(path: Path) -> Source:
    """A file as it is now. Raises OSError."""
    status = path.stat()
    return Source(str(path), status.st_size, str(status.st_mtime_ns))


def s3_source(backend: S3Backend, entry: Entry) -> Source:
    """An object as a listing tells of it."""
    return Source(f"s3://{backend.bucket}/{entry.key}", entry.size_bytes, str(entry.modified_s))


def _bucket_and_key(uri: str) -> tuple[S3Backend, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return S3Backend(bucket, ""), key


def local_copy(source: Source) -> Path:
    """The source as a local file, with the landmarks beside it where there are any.

    Raises VideoError where the file is gone or is no longer the one that was planned.
    """
    if source.uri.startswith("s3://"):
        return _download(source)
    path = Path(source.uri)
    _require_unchanged(source, _now(path))
    return path


@contextmanager
def unchanged_copy(source: Source) -> Iterator[Path]:
    """`local_copy` for the time of reading it.

    Raises VideoError also where the file changed meanwhile: whatever was read, or went wrong, is void then.
    """
    path = local_copy(source)
    try:
        yield path
    finally:
        if str(path) == source.uri:  # a copy from S3 is this machine's own
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
    """Fetch once per machine, whoever asks; visible only when whole."""
    folder = cache_folder("videos")
    copy = made_once(folder / source.id, Path.exists, lambda partial: _fetch(source, partial))
    os.utime(copy, ns=(time.time_ns(), time.time_ns()))  # finer than the kernel stamps files
    return copy / source.uri.rpartition("/")[2]


def _fetch(source: Source, folder: Path) -> None:
    _make_room(folder.parent, source.size_bytes)
    try:
        _fetch_with_landmarks(source, folder / source.uri.rpartition("/")[2])
    except StoreError as error:  # where footage lies is not where latents go
        raise VideoError(f"{source.uri}: cannot be fetched: {error}", "unreadable") from error


def _fetch_with_landmarks(source: Source, video: Path) -> None:
    backend, key = _bucket_and_key(source.uri)
    _require_unchanged(source, _on_s3_now(backend, key))
    _fetch_object(backend, key, source.size_bytes, video)
    _require_unchanged(source, _on_s3_now(backend, key))  # else it may be made of two versions
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
        shutil.rmtree(copy, ignore_errors=True)  # whoever reads it keeps the open file
        excess_bytes -= size
