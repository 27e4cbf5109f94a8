"""S3 as the file system that Ray Train and Ray Tune write checkpoints to, over the client of the store.

Ray pickles its file system into the saved state of trainings and studies. Pyarrow's own S3FileSystem looks
for credentials, endpoint and region in other places than boto3 does, and would hand keys that it is given to
that pickle. The file system here holds nothing: each process opens its own client with what it finds.

Paths are `bucket/key`. A folder is there while an object lies below it. Methods raise FileNotFoundError for
what is absent, and the errors of svgan_ray.store.backend.Backend.
"""

from __future__ import annotations

import io
import logging
import shutil
import sys
import tempfile
from typing import Any

from pyarrow import Buffer, NativeFile, PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType

from svgan_ray.store.backend import Entry
from svgan_ray.store.s3 import S3Backend

__all__ = ["S3Handler"]

_REQUEST_BYTES = 8 * 2**20
"""The most that one request reads; smaller files come with one request."""


class S3Handler(FileSystemHandler):  # type: ignore[misc]
    """What pyarrow asks of a file system: each method is what its namesake of pyarrow.fs.FileSystem calls."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler)

    def get_type_name(self) -> str:
        """The name under which Ray counts it."""
        return "s3"

    def normalize_path(self, path: str) -> str:
        """The path without slashes that mean nothing."""
        return _normalized(path)

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        """Whether each path is a file, a folder or absent."""
        return [_info(path) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """What lies in a folder, or anywhere below it."""
        base = _normalized(selector.base_dir)
        below, entries = _below(base)
        if below and not entries:
            if _info(base).is_file:
                raise NotADirectoryError(f"s3://{base} is an object, not a folder")
            if not selector.allow_not_found:
                raise _not_found(base)
        found: dict[str, FileInfo] = {}
        for entry in entries:
            parts = entry.key.removeprefix(below).split("/")
            for depth in range(1, len(parts) + 1 if selector.recursive else 2):
                path = "/".join([base, *parts[:depth]])
                if depth < len(parts):
                    found[path] = FileInfo(path, FileType.Directory)
                elif parts[-1]:  # other programs mark folders with an object whose key ends with a slash
                    found[path] = _file_info(path, entry)
        return list(found.values())

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: S3 needs no folders."""

    def delete_dir(self, path: str) -> None:
        """Delete all below a folder, which is the folder on S3."""
        self.delete_dir_contents(path, missing_dir_ok=False)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        """Delete all below a folder."""
        below, entries = _below(path)
        if not below:
            raise ValueError(f"s3://{path}: a whole bucket is not deleted here")
        if not entries and not missing_dir_ok:
            raise _not_found(path)
        for entry in entries:
            _place(path)[0].delete(entry.key)

    def delete_root_dir_contents(self) -> None:
        """Refuse to delete all buckets."""
        raise NotImplementedError("buckets are not deleted here")

    def delete_file(self, path: str) -> None:
        """Delete an object."""
        backend, key, _ = _existing(path)
        backend.delete(key)

    def move(self, src: str, dest: str) -> None:
        """Move an object."""
        self.copy_file(src, dest)
        self.delete_file(src)

    def copy_file(self, src: str, dest: str) -> None:
        """Copy an object through this machine."""
        with self.open_input_stream(src) as source, self.open_output_stream(dest) as target:
            shutil.copyfileobj(source, target, _REQUEST_BYTES)

    def open_input_stream(self, path: str) -> NativeFile:
        """An object's bytes from first to last."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> NativeFile:
        """An object's bytes at any place."""
        return PythonFile(io.BufferedReader(_Reader(*_existing(path)), _REQUEST_BYTES), mode="r")

    def open_output_stream(self, path: str, metadata: object = None) -> NativeFile:
        """A new object, which appears when the stream is closed, unless an exception closes it."""
        backend, key = _place(path)
        if not key:
            raise ValueError(f"s3://{path} is a bucket; expected bucket/key")
        return PythonFile(_Writer(backend, key), mode="w")

    def open_append_stream(self, path: str, metadata: object = None) -> NativeFile:
        """Refuse: an object cannot grow."""
        raise NotImplementedError(f"s3://{path}: an object on S3 cannot be appended to")


class _Reader(io.RawIOBase):
    """Reads an object on S3; each read is one request."""

    def __init__(self, backend: S3Backend, key: str, entry: Entry) -> None:
        self._backend, self._key, self._size_bytes, self._place = backend, key, entry.size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), _REQUEST_BYTES)
        if count == 0 or self._place >= self._size_bytes:
            return 0
        data = self._backend.get(self._key, self._place, self._place + count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size_bytes}
        self._place = max(0, starts[whence] + offset)
        return self._place

    def tell(self) -> int:
        return self._place


class _Writer:
    """Bytes on this machine's disk, which become an object when the writer is closed.

    A writer that is dropped leaves no object, nor does one that an exception closes: pyarrow closes it at the
    end of a `with` block however that ended, and does not say how. `pyarrow.fs.copy_files`, which Ray uses,
    never asks whether closing failed, so that is logged here.
    """

    def __init__(self, backend: S3Backend, key: str) -> None:
        self._backend, self._key = backend, key
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 closed by `close`
        self._handled = sys.exc_info()[1]  # whoever writes may be handling another exception

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: Buffer | bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        """Nothing is visible before the end."""

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self.closed:
            return
        with self._file:
            if sys.exc_info()[1] is not self._handled:
                return
            self._file.seek(0)
            try:
                self._backend.put_file(self._key, self._file)
            except Exception as error:
                logging.getLogger(__name__).error("not written: %s", error)
                raise

    def __del__(self) -> None:
        self._file.close()


def _normalized(path: str) -> str:
    return "/".join(part for part in path.split("/") if part)


def _place(path: str) -> tuple[S3Backend, str]:
    """The bucket of a path, and the key in it."""
    bucket, _, key = _normalized(path).partition("/")
    return S3Backend(bucket), key


def _below(path: str) -> tuple[str, list[Entry]]:
    """What the keys below a folder begin with, and their entries."""
    backend, key = _place(path)
    below = f"{key}/" if key else ""
    return below, list(backend.list(below))


def _existing(path: str) -> tuple[S3Backend, str, Entry]:
    """The bucket, key and entry of an object. Raises FileNotFoundError."""
    backend, key = _place(path)
    entry = backend.stat(key) if key else None
    if entry is None:
        raise _not_found(path)
    return backend, key, entry


def _not_found(path: str) -> FileNotFoundError:
    return FileNotFoundError(f"s3://{path}: there is no such object or folder")


def _info(path: str) -> FileInfo:
    backend, key = _place(path)
    if not key:
        return FileInfo(path, FileType.Directory)
    if entry := backend.stat(key):
        return _file_info(path, entry)
    is_folder = next(backend.list(f"{key}/"), None) is not None
    return FileInfo(path, FileType.Directory if is_folder else FileType.NotFound)


def _file_info(path: str, entry: Entry) -> FileInfo:
    return FileInfo(path, FileType.File, size=entry.size_bytes, mtime=entry.modified_s)
