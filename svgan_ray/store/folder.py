"""Objects as files below a folder."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.store.backend import Entry, ObjectNotFoundError
from svgan_ray.store.keys import TEMPORARY

__all__ = ["FolderBackend"]

_REFUSED = {
    errno.EACCES: "it is forbidden",
    errno.EPERM: "it is forbidden",
    errno.EROFS: "the file system is read-only",
}
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class FolderBackend:
    """Backend over a local or shared file system that supports hard links.

    A file is written and synced under a temporary name, then renamed (put) or hard-linked (put_if_absent) to
    its key. Then the folder is synced. So an object is complete or absent, even after a power failure.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def __repr__(self) -> str:
        return f"FolderBackend({str(self.root)!r})"

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        """See Backend.get."""
        try:
            with self._path(key).open("rb") as file:
                file.seek(first_byte)
                return file.read(-1 if stop_byte is None else max(0, stop_byte - first_byte))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectNotFoundError(f"{self.root}: no object {key}") from None
        except OSError as error:
            raise self._explained(error, "read", key) from error

    def put(self, key: str, data: bytes) -> None:
        """See Backend.put."""
        with self._written(key, data) as temporary:
            os.replace(temporary, self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Backend.put_if_absent."""
        with self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StoreAccessError(
                    f"{self.root}: its file system refuses hard links ({error.strerror}), which "
                    "create-if-absent needs; use a local disk, NFS or an s3:// store"
                ) from error
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        """See Backend.list."""
        folder, _, start = prefix.rpartition("/")
        yield from self._walk(self.root / folder, f"{folder}/" if folder else "", start)

    def stat(self, key: str) -> Entry | None:
        """See Backend.stat."""
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._explained(error, "read", key) from error
        return Entry(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> None:
        """See Backend.delete."""
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise self._explained(error, "delete", key) from error

    def _walk(self, folder: Path, prefix: str, start: str) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as scan:
                found = [(f"{item.name}/" if item.is_dir() else item.name, item) for item in scan]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._explained(error, "list", prefix) from error
        for name, item in sorted(found, key=lambda pair: pair[0].encode()):
            if not name.startswith(start) or (not prefix and name == TEMPORARY):
                continue
            if name.endswith("/"):
                yield from self._walk(folder / item.name, prefix + name, "")
            elif entry := self.stat(prefix + name):  # None: deleted since the scan
                yield entry

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A synced temporary file to move to its key; afterwards it is removed, and the folder synced."""
        path = self._path(key)
        temporary = self.root / TEMPORARY / uuid.uuid4().hex
        try:
            self._make_folder(temporary.parent)
            self._make_folder(path.parent)
            _write_synced(temporary, data)
            yield temporary
            _sync_folder(path.parent)
        except OSError as error:
            raise self._explained(error, f"write {len(data):,} bytes to", key) from error
        finally:
            _quietly(lambda: temporary.unlink(missing_ok=True))

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def _path(self, key: str) -> Path:
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise StoreError(f"{key!r} is no key: expected names separated by single slashes")
        return self.root / key

    def _explained(self, error: OSError, verb: str, key: str) -> StoreError:
        code = error.errno or 0
        if code in _REFUSED:
            return StoreAccessError(
                f"{self.root}: cannot {verb} {key}: {_REFUSED[code]}; check the folder's owner and mode"
            )
        if code in _FULL:
            return StoreError(
                f"{self.root}: cannot {verb} {key}: {_FULL[code]}; free space and run the same command again"
            )
        return StoreError(f"{self.root}: cannot {verb} {key}: {error}")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError:
        return  # a temporary file that stays is garbage, and an earlier error is more informative
