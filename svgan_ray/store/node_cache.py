"""Local copies of a store's content: made once per machine for all processes, visible only when complete."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from svgan_ray.errors import StoreAccessError

__all__ = ["PARTIAL", "cache_folder", "made_once"]

PARTIAL = ".partial"
"""Ending of a folder that is being filled."""


def cache_folder(kind: str) -> Path:
    """This user's folder for one kind of copies, below TMPDIR. StoreAccessError if others may write there."""
    folder = Path(tempfile.gettempdir()) / f"svgan-ray-{kind}-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise StoreAccessError(f"{folder}: cannot be made ({error.strerror}); set TMPDIR") from error
    # A user with write access could replace the content after it was checked.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise StoreAccessError(f"{folder}: others may write there; remove it, or set TMPDIR elsewhere")
    return folder


def made_once(target: Path, is_sound: Callable[[Path], bool], make: Callable[[Path], None]) -> Path:
    """The folder `target`; if it is not sound, one of the processes that ask fills it with `make`.

    Raises StoreAccessError if it cannot be written, for example to a full disk.
    """
    if is_sound(target):
        return target
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_sound(target):
            _make(target, make)
    return target


def _make(target: Path, make: Callable[[Path], None]) -> None:
    partial = target.with_name(target.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # a killed process may have left it
    try:
        partial.mkdir()
        make(partial)
        shutil.rmtree(target, ignore_errors=True)  # a process that reads it keeps its open files
        partial.rename(target)
    except OSError as error:
        raise StoreAccessError(
            f"{target}: cannot be written ({error.strerror}); free space there, or set TMPDIR to another disk"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
