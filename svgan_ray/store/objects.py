"""The common base of the store: records and content by key, which are checked whenever they are read."""

from __future__ import annotations

import socket
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from typing import TypeAlias, TypeVar

from torch import Tensor

from svgan_ray.errors import CorruptObjectError, StoreError
from svgan_ray.store import codec, keys
from svgan_ray.store.backend import Backend, Entry, ObjectNotFoundError
from svgan_ray.store.records import LockRecord, ObjectRef, Record

__all__ = ["FRESH_S", "ObjectStore", "OnProgress", "Usage", "in_threads", "is_fresh", "unwatched", "watched"]

FRESH_S = 86_400.0
"""The oldest content that a new record may name; it is far below the collector's grace period."""

_REPAIR = "`python jobs/store.py verify --deep` lists a repair"
_THREADS = 16
_BATCH = 512  # how many items are read ahead in threads

R = TypeVar("R", bound=Record)
A = TypeVar("A")
B = TypeVar("B")

OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of items that are done, and with the total if it is known."""


@dataclass(frozen=True)
class Usage:
    """The number of objects and bytes in one section of the store."""

    objects: int
    size_bytes: int


class ObjectStore:
    """Records and content in a backend. It is safe for threads and can be sent to other processes."""

    def __init__(self, backend: Backend, uri: str) -> None:
        self.backend = backend
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def usage(self) -> dict[str, Usage]:
        """The number of objects and bytes by section, from one listing."""
        objects: dict[str, int] = defaultdict(int)
        size_bytes: dict[str, int] = defaultdict(int)
        for entry in self.backend.list(""):
            section = entry.key.partition("/")[0]
            objects[section] += 1
            size_bytes[section] += entry.size_bytes
        return {section: Usage(objects[section], size_bytes[section]) for section in keys.SECTIONS}

    def put_content(self, key: str, data: bytes) -> ObjectRef:
        """Store content under the key with its hash, or under the key of its next copy.

        A copy is stored if the existing object is damaged, or so old that a collector may be deleting it.
        """
        sha256 = keys.content_sha256(key)
        assert sha256 is not None
        for number in count():
            ref = ObjectRef(keys.copy(key, number), sha256, len(data))
            if self.backend.put_if_absent(ref.key, data) or self._is_usable(ref):
                return ref
        raise AssertionError("unreachable")

    def content(self, ref: ObjectRef) -> bytes:
        """An object's bytes. Raises ObjectNotFoundError, CorruptObjectError."""
        try:
            data = self.backend.get(ref.key)
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError(f"{error}, though a record names it; {_REPAIR}") from None
        if codec.sha256_of(data) != ref.sha256:
            raise CorruptObjectError(
                f"{self.uri}: {ref.key}: its {len(data):,} bytes differ from their sha256; {_REPAIR}"
            )
        return data

    def _is_usable(self, ref: ObjectRef) -> bool:
        entry = self.backend.stat(ref.key)
        if entry is None or not is_fresh(entry):
            return False
        try:
            self.content(ref)
            return True
        except (CorruptObjectError, ObjectNotFoundError):
            return False

    def _tensors(self, ref: ObjectRef) -> dict[str, Tensor]:
        return codec.decode_tensors(self.content(ref), ref.key)

    def put_once(self, key: str, record: R) -> R:
        """Create a record unless it exists; returns `record` itself if created, else the stored record."""
        while not self.backend.put_if_absent(key, record.to_json()):
            if standing := self.record(type(record), key):
                return standing
        return record

    def record(self, cls: type[R], key: str) -> R | None:
        """The record under a key; None if there is none."""
        try:
            return cls.from_json(self.backend.get(key), key)
        except ObjectNotFoundError:
            return None

    def records(self, cls: type[R], record_keys: Iterable[str]) -> Iterator[R]:
        """The records under some keys, read in threads; keys without a record are skipped."""
        found = in_threads(lambda key: self.record(cls, key), record_keys)
        return (record for record in found if record is not None)

    def record_keys(self, prefix: str) -> Iterator[str]:
        """Keys of the records under a prefix, from one listing."""
        return (e.key for e in self.backend.list(prefix) if e.key.endswith(".json"))

    @contextmanager
    def exclusive(self, break_lock: bool = False) -> Iterator[None]:
        """Hold the lock of garbage collection and repair; a killed holder's lock must be broken on purpose.

        Raises StoreError if another process holds the lock.
        """
        lock = LockRecord(
            socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"), uuid.uuid4().hex
        )
        if break_lock:
            self.backend.put(keys.LOCK, lock.to_json())
        elif (holder := self.put_once(keys.LOCK, lock)) != lock:
            raise StoreError(
                f"{self.uri}: {holder.node} has been collecting garbage or repairing since {holder.since}; "
                "wait, or if that was killed, break its lock with --break-lock"
            )
        try:
            yield
        finally:
            if self.record(LockRecord, keys.LOCK) == lock:  # a broken lock may now belong to another process
                self.backend.delete(keys.LOCK)

    def _parts(self, prefix: str) -> list[str]:
        return sorted({entry.key.split("/")[1] for entry in self.backend.list(prefix)})


def is_fresh(entry: Entry) -> bool:
    """Whether a new record may name this content."""
    return time.time() - entry.modified_s <= FRESH_S


def in_threads(action: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """The results of `action` in the order of the items, computed ahead in threads, batch by batch."""
    remaining = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(remaining, _BATCH)):
            yield from pool.map(action, batch)


def unwatched(done: int, total: int | None) -> None:
    """An OnProgress that does nothing."""


def watched(items: Iterable[A], on_progress: OnProgress, total: int | None = None) -> Iterator[A]:
    """Yield the items, and report each one to `on_progress`."""
    for done, item in enumerate(items, start=1):
        yield item
        on_progress(done, total)
