"""The local spool: one folder a tracker, an append-only JSONL file and the files that events name.

```
<spool_dir>/<hash of identity>-<opened ns>-<pid>/
    run.json        the Run that the events belong to
    events.jsonl    one event a line, appended by the caller
    files/          copies of artifacts, deleted once delivered
    delivered       bytes of events.jsonl that the server has acknowledged
    rejected.jsonl  events that the server refuses for good, with the reason
    lock            flock-ed by the owning process, so that a replay leaves live spools alone
```
Delivery is at least once: after a crash the events behind `delivered` are sent again, with their first times.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Event", "Run", "Spool"]

Event = dict[str, Any]

_READ_BYTES = 1 << 17


@dataclass(frozen=True)
class Run:
    """What identifies a run and what it is called; `identity` finds the same run again."""

    experiment: str
    name: str
    kind: str
    identity: str
    parent: str | None
    opened_ms: int


class Spool:
    """Events of one tracker on disk; appended by any thread, read by the draining one."""

    def __init__(self, folder: Path, run: Run, lock_descriptor: int) -> None:
        self.folder = folder
        self.run = run
        self._lock_descriptor = lock_descriptor
        self._append_lock = threading.Lock()
        self._events = (folder / "events.jsonl").open("ab", buffering=0)
        self._files_named = 0
        self.delivered_bytes = _read_cursor(folder)

    @classmethod
    def create(cls, spool_dir: Path, run: Run) -> Spool:
        folder = spool_dir / f"{_prefix(run.identity)}-{time.time_ns()}-{os.getpid()}"
        (folder / "files").mkdir(parents=True)
        descriptor = _acquire(folder)
        assert descriptor is not None, "a folder just created cannot be locked by another"
        _write_whole(folder / "run.json", json.dumps(asdict(run)))
        return cls(folder, run, descriptor)

    @classmethod
    def abandoned(cls, spool_dir: Path, identity: str | None = None) -> Iterator[Spool]:
        """Spools that a dead process left behind, oldest first, each locked for the caller."""
        pattern = f"{_prefix(identity)}-*" if identity else "*-*-*"
        for run_file in sorted(
            spool_dir.glob(f"{pattern}/run.json"), key=lambda file: file.parent.name.split("-")[1]
        ):
            descriptor = _acquire(run_file.parent)
            if descriptor is None:
                continue
            if run_file.exists():
                _drop_torn_line(run_file.with_name("events.jsonl"))
                yield cls(run_file.parent, Run(**json.loads(run_file.read_text())), descriptor)
            else:  # its owner finished and removed it between the listing and the lock
                os.close(descriptor)

    @property
    def appended_bytes(self) -> int:
        return os.fstat(self._events.fileno()).st_size

    @property
    def is_delivered(self) -> bool:
        return self.delivered_bytes >= self.appended_bytes

    def append(self, event: Event) -> None:
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with self._append_lock:
            self._events.write(line)

    def name_file(self, name: str) -> Path:
        """A fresh path below files/ ; events name it relative to the spool's folder."""
        with self._append_lock:
            self._files_named += 1
            folder = self.folder / "files" / f"{self._files_named:06d}"
        folder.mkdir()
        return folder / name

    def pending(self) -> tuple[list[Event], int]:
        """What to deliver next, a run of metrics or one other event, and the cursor behind it."""
        with (self.folder / "events.jsonl").open("rb") as file:
            file.seek(self.delivered_bytes)
            block = file.read(_READ_BYTES) + file.readline()
        events: list[Event] = []
        stop = self.delivered_bytes
        for line in block[: block.rfind(b"\n") + 1].splitlines(keepends=True):
            event = _parse(line)
            if event and events and event["kind"] != "metrics":
                break
            stop += len(line)
            if event:
                events.append(event)
                if event["kind"] != "metrics":
                    break
        return events, stop

    def advance(self, delivered_bytes: int, delivered: list[Event]) -> None:
        _write_whole(self.folder / "delivered", str(delivered_bytes))
        self.delivered_bytes = delivered_bytes
        for event in delivered:
            if "file" in event:
                shutil.rmtree((self.folder / event["file"]).parent, ignore_errors=True)

    def reject(self, event: Event, reason: str) -> None:
        with (self.folder / "rejected.jsonl").open("a") as file:
            file.write(json.dumps({"reason": reason, "event": event}) + "\n")

    def close(self) -> None:
        """Give the spool up; a spool wholly delivered leaves nothing behind but what was rejected."""
        complete = self.is_delivered
        self._events.close()
        if complete and not (self.folder / "rejected.jsonl").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock_descriptor)


def _prefix(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _acquire(folder: Path) -> int | None:
    """The descriptor of the locked lock file, or None where another process holds it or has removed it."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _drop_torn_line(events: Path) -> None:
    """A process killed while it wrote leaves a last line without a newline."""
    if events.exists():
        content = events.read_bytes()
        os.truncate(events, content.rfind(b"\n") + 1)


def _read_cursor(folder: Path) -> int:
    cursor = folder / "delivered"
    return int(cursor.read_text()) if cursor.exists() else 0


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(text)
    temporary.replace(path)


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
