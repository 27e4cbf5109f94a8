"""Where footage is: what `--videos` means, and a local copy of what lies on S3."""

from __future__ import annotations

import fnmatch
import glob
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from svgan_ray.errors import ConfigError, StoreError, VideoError
from svgan_ray.store.backend import Entry
from svgan_ray.store.keys import source_id
from svgan_ray.store.node_cache import PARTIAL, cache_folder, made_once
from svgan_ray.store.s3 import S3Backend
from svgan_ray.video.containers import VIDEO_ENDINGS, is_video_file, is_video_name
from svgan_ray.video.landmarks import sidecar_path

__all__ = ["Source", "expand", "local_copy", "unchanged_copy"]

CACHE_BYTES = 20 * 2**30
"""Copies of S3 videos that a machine keeps; the least recently used go first."""

_SLICE_BYTES = 64 * 2**20
_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """A video file as it was when the job was planned; version is its modification time."""

    uri: str
    size_bytes: int
    version: str

    @property
    def id(self) -> str:
        """Id under which the store remembers what this file held."""
        return source_id(self.uri, self.size_bytes, self.version)

    @property
    def name(self) -> str:
        """File name without its ending."""
        return PurePosixPath(self.uri).stem


def expand(videos: Iterable[str]) -> list[Source]:
    """The videos that files, folders, globs and s3:// prefixes name, sorted, unique. Raises ConfigError."""
    found: dict[str, Source] = {}
    for pattern in videos:
        sources = list(_on_s3(pattern) if pattern.startswith("s3://") else _local(pattern))
        if not sources:
            endings = ", ".join(sorted(VIDEO_ENDINGS))
            raise ConfigError(
                f"--videos {pattern}: no video found; looked for files ending in {endings}; "
                "a file of another ending can be named outright"
            )
        found |= {source.uri: source for source in sources}
    return [found[uri] for uri in sorted(found)]


def _local(pattern: str) -> Iterator[Source]:
    path = Path(pattern).expanduser()
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = [file for file in path.rglob("*") if _is_video(file)]
    elif _GLOB & set(pattern):
        files = [Path(name) for name in glob.glob(str(path), recursive=True) if _is_video(Path(name))]
    else:
        raise ConfigError(f"--videos {pattern}: no such file or folder")
    return (_local_source(file.absolute()) for file in files if file.is_file())


def _local_source(path: Path) -> Source:
    status = path.stat()
    return Source(str(path), status.st_size, str(status.st_mtime_ns))


def _is_video(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file() and is_video_file(path)


def _is_video_key(key: str) -> bool:
    """An object's name has to do: asking what it holds would fetch it."""
    return is_video_name(key) and not PurePosixPath(key).name.startswith(".")


def _on_s3(pattern: str) -> Iterator[Source]:
    backend, key = _bucket_and_key(pattern)
    literal = key[: min((key.index(sign) for sign in _GLOB if sign in key), default=len(key))]
    for entry in backend.list(literal):
        if entry.key == key or (
            _is_video_key(entry.key) and _matches(entry.key, key, is_glob=literal != key)
        ):
            yield _s3_source(backend, entry)


def _matches(key: str, pattern: str, is_glob: bool) -> bool:
    return (
        fnmatch.fnmatchcase(key, pattern)
        if is_glob
        else key.startswith(pattern.rstrip("/") + "/") or not pattern
    )


def _s3_source(backend: S3Backend, entry: Entry) -> Source:
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
        return _local_source(path)
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
    return _s3_source(backend, entry) if entry else None


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
