"""A false alarm of Ray's that every inversion would begin with, kept out of sight.

Ray Data hands its actors what they are to do by reference, and Ray's core warns that an actor with such
arguments cannot come back once they are gone (ray-project/ray, issue 53727). Ray Data keeps them for as long
as it runs. The line comes from C++ straight to the driver's standard error, and no setting is about it alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FALSE_ALARM", "without_false_alarm"]

FALSE_ALARM = "has constructor arguments in the object store and max_restarts > 0"
_ERRORS = 2
_TIMEOUT_S = 5.0


@contextmanager
def without_false_alarm() -> Iterator[None]:
    """Within the block a process of its own drops that line from standard error and hands on all others.

    It outlives this process, so that the last words of a crash are seen.
    """
    grep = shutil.which("grep")
    if grep is None:
        yield
        return
    sys.stderr.flush()
    before = os.dup(_ERRORS)
    command = [grep, "--line-buffered", "--text", "--invert-match", "--fixed-strings", FALSE_ALARM]
    # In a session of its own it is not ended by Ctrl-C before it has handed everything on.
    sieve = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=before, start_new_session=True)
    assert sieve.stdin is not None
    os.dup2(sieve.stdin.fileno(), _ERRORS)
    sieve.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, _ERRORS)
        os.close(before)
        try:
            sieve.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # another process has inherited the pipe
            sieve.kill()
