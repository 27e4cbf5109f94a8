"""A lock for one process at a time: two processes of one training or study would overwrite its checkpoints.

In a local folder, the lock is the kernel's (`flock`), which is released when the process that holds it ends,
however it ends. S3 has no such lock. There, the lock is an object that its holder renews every ten seconds.
Another process that finds this object watches it for half a minute, and takes it over if it is not renewed
meanwhile. If two processes take over a lock at the same moment, the one whose content the object holds
afterwards has the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.background import repeat_in_background
from svgan_ray.orchestration.runtime.folders import folder_backend
from svgan_ray.orchestration.runtime.terminal import print_line
from svgan_ray.store.backend import Backend, ObjectNotFoundError

__all__ = ["held_alone"]

RENEW_EVERY_S = 10.0
WATCHED_S = 30.0


@contextmanager
def held_alone(folder: str, what: str) -> Iterator[None]:
    """Hold the lock of `folder`, a local one or s3://bucket/prefix, for the block.

    If another process holds it, raises ConfigError with that process's host, id and starting time.
    """
    parent, _, name = folder.rstrip("/").rpartition("/")
    if folder.startswith("s3://"):
        with _held_on_s3(folder_backend(parent), f"{name}.lock", what):
            yield
    else:
        with _held_here(Path(parent, f".{name}.lock"), what):
            yield


@contextmanager
def _held_here(path: Path, what: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:  # others read the holder's name in it, so only the next holder truncates it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _taken(what, file.read()) from error
        file.truncate(0)
        file.write(_me())
        file.flush()
        yield


@contextmanager
def _held_on_s3(backend: Backend, key: str, what: str) -> Iterator[None]:
    mine = [_me()]
    if not backend.put_if_absent(key, mine[0].encode()):
        _await_abandoned(backend, key, what)
        backend.put(key, mine[0].encode())
        time.sleep(1)  # a process that took it over at the same moment has written by now
        if (holder := _read(backend, key)) != mine[0]:
            raise _taken(what, holder or "")

    def renew() -> None:
        if time.monotonic() - renewed_s[0] >= RENEW_EVERY_S:
            renewed_s[0] = time.monotonic()
            mine[0] = json.dumps({**json.loads(mine[0]), "beat": uuid.uuid4().hex})
            backend.put(key, mine[0].encode())

    renewed_s = [time.monotonic()]
    try:
        with repeat_in_background(renew):
            yield
    finally:
        backend.delete(key)


def _await_abandoned(backend: Backend, key: str, what: str) -> None:
    """Return when nobody has renewed the lock for long enough. Raises ConfigError if somebody does."""
    before = _read(backend, key)
    print_line(f"{what} may be at work elsewhere: watching its lock for {WATCHED_S:.0f} s")
    until_s = time.monotonic() + WATCHED_S
    while time.monotonic() < until_s:
        time.sleep(1)
        if (now := _read(backend, key)) != before and now is not None:
            raise _taken(what, now)


def _read(backend: Backend, key: str) -> str | None:
    try:
        return backend.get(key).decode()
    except ObjectNotFoundError:
        return None


def _me() -> str:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": since})


def _taken(what: str, holder: str) -> ConfigError:
    try:
        known = json.loads(holder)
        by = f"process {known['process']} on {known['host']}, since {known['since']}"
    except (ValueError, KeyError, TypeError):
        by = "another process"
    return ConfigError(f"{what} is at work already: {by}; wait for it, or end it and run this again")
