"""Processor time of this process and of all its descendants, during a `with` block."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from svgan_ray.orchestration.runtime.background import repeat_in_background

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def metered(report: Callable[[float, float], None]) -> Iterator[None]:
    """Report elapsed seconds and seconds of processor time since the start, every second and at the end.

    The last second of a process that ends may be missed. Works on Linux only.
    """
    began_s = time.monotonic()
    at_start = _times_s()
    seen: dict[tuple[int, int], float] = {}

    def look() -> None:
        seen.update(_times_s())
        report(time.monotonic() - began_s, sum(seen.values()) - sum(at_start.values()))

    try:
        with repeat_in_background(look):
            yield
    finally:
        look()


def _times_s() -> dict[tuple[int, int], float]:
    """Processor time by (process, its start) of this process and its living descendants."""
    parents: dict[int, int] = {}
    times_s: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        process = int(path.parent.name)
        parents[process] = int(fields[1])
        times_s[process] = int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    own = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in own} - own:
        own |= more
    return {(process, times_s[process][0]): times_s[process][1] for process in own if process in times_s}
