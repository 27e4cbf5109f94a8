"""How a job is ended from outside."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["take_sigterm_as_interrupt"]


def take_sigterm_as_interrupt() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does.

    Ray takes the signal for itself whenever it is started, and would print a stack of its own: then it is to
    be called again. In a thread, where no signal can be taken, it does nothing.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
