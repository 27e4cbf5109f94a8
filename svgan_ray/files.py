"""Files and folders that appear whole or not at all, and the hash of a file."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["file_sha256", "write_whole", "written_whole", "written_whole_folder"]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path`: it replaces `path` if the block succeeds, otherwise it is removed.

    Its name is short, because the name of `path` may be as long as the file system allows. The folder is
    created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file's content, text as UTF-8; a reader sees the old file or the new one, whole."""
    with written_whole(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextmanager
def written_whole_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder`: it replaces `folder` if the block succeeds, else it is removed."""
    folder = Path(folder).absolute()
    partial, old = _beside(folder), _beside(folder)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{uuid4().hex}.part")
