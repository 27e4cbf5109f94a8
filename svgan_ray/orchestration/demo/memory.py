"""Memory of this process and its descendants, without Ray's object store.

Proportional set size (proc_pid_smaps(5)): a page that several processes share counts once, so that libraries
mapped by every worker are not counted for each. Shared memory, which is the object store, is subtracted.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PeakMemory", "tree_bytes"]

_PROC = Path("/proc")
SAMPLE_EVERY_S = 1.0


class PeakMemory:
    """Measures in a thread while the block runs; `peak_bytes` is None if the system does not report it."""

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            used = tree_bytes(os.getpid())
            if used is not None:
                self.peak_bytes = max(used, self.peak_bytes or 0)
            if self._is_over.wait(SAMPLE_EVERY_S):
                return


def tree_bytes(root: int) -> int | None:
    """Memory of a process and its descendants without shared memory; None if /proc does not report it."""
    used = [_private_bytes(pid) for pid in _tree(root)]
    known = [size for size in used if size is not None]
    return sum(known) if known else None


def _tree(root: int) -> list[int]:
    children = defaultdict(list)
    for stat in _PROC.glob("[0-9]*/stat"):
        try:
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        children[int(parent)].append(int(stat.parent.name))
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree += children[pid]
    return tree


def _private_bytes(pid: int) -> int | None:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended, or the system has no such file
        return None
    kib = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith("Pss")}
    return (kib["Pss:"] - kib["Pss_Shmem:"]) * 1024 if kib else None
