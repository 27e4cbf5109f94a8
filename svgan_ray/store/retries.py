"""How often this process had to repeat requests to a store, told to whoever wants to count."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["tell_retry", "watch_retries"]

_watchers: list[Callable[[], None]] = []


def watch_retries(on_retry: Callable[[], None]) -> None:
    """Have `on_retry` called, in whatever thread, before each request that is a repetition."""
    _watchers.append(on_retry)


def tell_retry() -> None:
    """A request is about to be repeated."""
    for watcher in _watchers:
        watcher()
