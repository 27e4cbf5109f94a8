"""Callbacks for repeated requests to a store, so that a process can count them."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["tell_retry", "watch_retries"]

_watchers: list[Callable[[], None]] = []


def watch_retries(on_retry: Callable[[], None]) -> None:
    """Register `on_retry`; it is called, in any thread, before each repetition of a request."""
    _watchers.append(on_retry)


def tell_retry() -> None:
    """Report that a request is about to be repeated."""
    for watcher in _watchers:
        watcher()
