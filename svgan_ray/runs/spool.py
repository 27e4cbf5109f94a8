"""The local spool: one folder per run, with an append-only JSONL file and the files that events name.

```
<spool_dir>/<hash of identity>-<opened ns>-<pid>/
    run.json        the RunInfo that the events belong to
    events.jsonl    one event a line, appended by the caller
    files/          copies of artifacts, deleted once delivered
    delivered       bytes of events.jsonl that the server has acknowledged
    rejected.jsonl  events that the server refuses for good, with the reason
    lock            flock-ed by the owning process, so that a replay leaves live spools alone
```
Delivery is at least once: after a crash, events after `delivered` are sent again with their original times.
"""

from __future__ import annotations

import errno
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

from svgan_ray.files import write_whole
from svgan_ray.runs.events import Event

__all__ = ["RunInfo", "Spool"]

_READ_BYTES = 1 << 17


@dataclass(frozen=True)
class RunInfo:
    """The identity and the name of a run; `identity` finds the same run again."""

    experiment: str
    name: str
    kind: str
    identity: str
    parent: str | None
    opened_ms: int
    tags: dict[str, str]
    """The machine and the code that opened it."""


class Spool:
    """Events of one run on disk; any thread appends, and the draining thread reads."""

    def __init__(self, folder: Path, info: RunInfo, lock_descriptor: int) -> None:
        self.folder = folder
        self.info = info
        self._lock_descriptor = lock_descriptor
        self._append_lock = threading.Lock()
        self._events = (folder / "events.jsonl").open("ab", buffering=0)
        self._files_named = 0
        self._rejected = 0
        self._is_torn = False
        self.delivered_bytes = _read_cursor(folder)

    @classmethod
    def create(cls, spool_dir: Path, info: RunInfo) -> Spool:
        folder = spool_dir / f"{_prefix(info.identity)}-{time.time_ns()}-{os.getpid()}"
        (folder / "files").mkdir(parents=True)
        descriptor = _acquire(folder)
        assert descriptor is not None, "a folder just created cannot be locked by another"
        write_whole(folder / "run.json", json.dumps(asdict(info)))
        return cls(folder, info, descriptor)

    @classmethod
    def abandoned(cls, spool_dir: Path, identity: str | None = None) -> Iterator[Spool]:
        """Spools that dead processes left, oldest first; each is locked for the caller, who must close it.

        Spools that hold only rejected events are skipped.
        """
        pattern = f"{_prefix(identity)}-*" if identity else "*-*-*"
        folders = [run_file.parent for run_file in spool_dir.glob(f"{pattern}/run.json")]
        for folder in sorted(folders, key=lambda folder: folder.name.split("-")[1]):
            if (descriptor := _acquire(folder)) is None:
                continue
            if (info := _read_info(folder)) is None:
                os.close(descriptor)
                continue
            _drop_torn_line(folder / "events.jsonl")
            spool = cls(folder, info, descriptor)
            if spool.is_delivered and (folder / "rejected.jsonl").exists():
                spool.close()
            else:
                yield spool

    @property
    def appended_bytes(self) -> int:
        return os.fstat(self._events.fileno()).st_size

    @property
    def is_delivered(self) -> bool:
        return self.delivered_bytes >= self.appended_bytes

    @property
    def is_finished(self) -> bool:
        """Whether the last event closes the run."""
        last = (self.folder / "events.jsonl").read_bytes().rstrip(b"\n").rpartition(b"\n")[2]
        event = Event.parse(last, self.folder)
        return event is not None and event.kind == "finish"

    @property
    def last_append_ms(self) -> int:
        """When the last event was appended."""
        return os.fstat(self._events.fileno()).st_mtime_ns // 1_000_000

    @property
    def has_living_successor(self) -> bool:
        """Whether a living process holds another spool of the same run."""
        for folder in self.folder.parent.glob(f"{_prefix(self.info.identity)}-*"):
            if folder == self.folder:
                continue
            if (descriptor := _acquire(folder)) is None:
                return True
            os.close(descriptor)
        return False

    def append(self, event: Event) -> None:
        """Write one event and its file.

        Raises OSError if the disk refuses them; later events are not affected by that.
        """
        file = self._name_file(event.attachment.name) if event.attachment else None
        if event.attachment and file:
            event.attachment.write(self.folder / file)
        line = json.dumps(event.record(file), separators=(",", ":")).encode() + b"\n"
        with self._append_lock:
            line = b"\n" + line if self._is_torn else line
            self._is_torn = True
            self._is_torn = self._events.write(line) != len(line)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _name_file(self, name: str) -> Path:
        """A fresh path below files/, relative to the spool's folder."""
        with self._append_lock:
            self._files_named += 1
            folder = Path("files", f"{self._files_named:06d}")
        (self.folder / folder).mkdir()
        return folder / name

    def pending(self) -> tuple[list[Event], int]:
        """The next events to deliver (consecutive metrics, or one other event), and the cursor after them."""
        with (self.folder / "events.jsonl").open("rb") as file:
            file.seek(self.delivered_bytes)
            block = file.read(_READ_BYTES) + file.readline()
        events: list[Event] = []
        stop = self.delivered_bytes
        for line in block[: block.rfind(b"\n") + 1].splitlines(keepends=True):
            event = Event.parse(line, self.folder)
            if event and events and event.kind != "metrics":
                break
            stop += len(line)
            if event:
                events.append(event)
                if event.kind != "metrics":
                    break
        return events, stop

    def advance(self, delivered_bytes: int, delivered: list[Event]) -> None:
        write_whole(self.folder / "delivered", str(delivered_bytes))
        self.delivered_bytes = delivered_bytes
        for event in delivered:
            if event.attachment:
                shutil.rmtree(event.file.parent, ignore_errors=True)

    def reject(self, event: Event, reason: str) -> int:
        """Move an event to the rejected ones; returns how many these are now."""
        file = event.file.relative_to(self.folder) if event.attachment else None
        with (self.folder / "rejected.jsonl").open("a") as rejected:
            rejected.write(json.dumps({"reason": reason, "event": event.record(file)}) + "\n")
        self._rejected += 1
        return self._rejected

    def close(self, keep: bool = False) -> None:
        """Release the spool. If all is delivered, delete all but rejected events, unless `keep` is set."""
        complete = self.is_delivered and not keep
        self._events.close()
        if complete and not (self.folder / "rejected.jsonl").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock_descriptor)


def _prefix(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _acquire(folder: Path) -> int | None:
    """The descriptor of the locked lock file, or None if another process holds it or has removed it."""
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
    """Remove a last line without a newline, which a process leaves if it is killed while it writes."""
    if events.exists():
        content = events.read_bytes()
        os.truncate(events, content.rfind(b"\n") + 1)


def _read_info(folder: Path) -> RunInfo | None:
    """The run of a spool; None if its owner has removed it meanwhile, or a power cut emptied the file."""
    try:
        return RunInfo(**json.loads((folder / "run.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _read_cursor(folder: Path) -> int:
    """The cursor; if it is illegible, everything is sent again, which changes nothing."""
    try:
        return int((folder / "delivered").read_text())
    except (OSError, ValueError):
        return 0
