"""Ends a job from outside with SIGTERM."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["take_sigterm_as_interrupt"]


def take_sigterm_as_interrupt() -> None:
    """Let SIGTERM end this process as Ctrl-C does.

    Ray installs its own handler whenever it starts, which would print a stack trace; call this again after
    that. It does nothing in a thread, where Python cannot install a handler.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
