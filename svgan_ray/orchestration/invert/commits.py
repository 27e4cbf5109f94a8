"""Commits in threads. Several run in parallel, because each one mostly waits for answers to requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from svgan_ray.errors import StoreError
from svgan_ray.orchestration.invert.items import Clip
from svgan_ray.store import CommitRecord

__all__ = ["COMMITS_AT_ONCE", "Commits", "Outcome"]

COMMITS_AT_ONCE = 16
_MOST_WAITING = 4 * COMMITS_AT_ONCE

Outcome: TypeAlias = tuple[Clip, CommitRecord, StoreError | None]
"""A clip, its commit record, and the error with which the store refused it, if it did."""


@dataclass(frozen=True)
class Commits:
    """Calls `action` for each commit in a thread and yields the outcomes in the order of submission."""

    action: Callable[[CommitRecord], object]
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(COMMITS_AT_ONCE))
    _begun: deque[tuple[Clip, CommitRecord, Future[object]]] = field(default_factory=deque)

    def begin(self, clip: Clip, record: CommitRecord) -> None:
        """Submit the commit of a clip."""
        self._begun.append((clip, record, self._threads.submit(self.action, record)))

    def ended(self, all_of_them: bool = False) -> Iterator[Outcome]:
        """Yield the commits that have ended. Waits until few are left, or none with `all_of_them`."""
        most = 0 if all_of_them else _MOST_WAITING
        while self._begun and (len(self._begun) > most or self._begun[0][2].done()):
            clip, record, future = self._begun.popleft()
            error = future.exception()
            if error is not None and not isinstance(error, StoreError):
                raise error
            yield clip, record, error

    def close(self) -> None:
        """Cancel the commits that have not begun in a thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
