"""An action that is repeated in a background thread while the work lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["repeat_in_background"]

_INTERVAL_S = 1.0


@contextmanager
def repeat_in_background(action: Callable[[], object]) -> Iterator[None]:
    """Call `action` every second in a thread, which is joined when the block ends."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(_INTERVAL_S):
            action()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
