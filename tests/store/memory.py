"""A backend in memory: the model that the state machine interleaves, held to the same conformance suite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from svgan_ray.store.backend import Entry, ObjectNotFoundError


class MemoryBackend:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.clock = clock
        self._lock = threading.Lock()

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        try:
            data = self.objects[key][0]
        except KeyError:
            raise ObjectNotFoundError(f"no object {key}") from None
        return data[first_byte : None if stop_byte is None else max(first_byte, stop_byte)]

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = (data, self.clock())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if key in self.objects:
                return False
            self.put(key, data)
            return True

    def list(self, prefix: str) -> Iterator[Entry]:
        """As on S3, page by page: a change is seen if it is behind the cursor."""
        cursor = ""
        while page := self._page(prefix, cursor):
            cursor = page[-1]
            yield from (entry for key in page if (entry := self.stat(key)))

    def _page(self, prefix: str, cursor: str) -> Sequence[str]:
        return sorted(key for key in list(self.objects) if key.startswith(prefix) and key > cursor)[:2]

    def stat(self, key: str) -> Entry | None:
        found = self.objects.get(key)
        return Entry(key, len(found[0]), found[1]) if found else None

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)
