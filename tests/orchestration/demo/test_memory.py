"""The memory figure covers children and leaves shared memory out."""

from __future__ import annotations

import os
import subprocess
import sys

from svgan_ray.orchestration.demo import memory
from svgan_ray.orchestration.demo.memory import PeakMemory, tree_bytes
from tests.orchestration.faulty_workers import wait_for

MIB = 1 << 20
HOLD = "import sys; held = bytearray(b'x' * {size}); print('ready', flush=True); sys.stdin.read()"
HOLD_SHARED = (
    "import mmap, sys; held = mmap.mmap(-1, {size});"
    "[held.write(b'x' * 4096) for _ in range({size} // 4096)];"
    "print('ready', flush=True); sys.stdin.read()"
)


def child(program: str, size: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program.format(size=size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def close(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def test_children_count() -> None:
    before = tree_bytes(os.getpid())
    process = child(HOLD, 64 * MIB)
    during = tree_bytes(os.getpid())
    close(process)
    assert before is not None and during is not None
    assert 60 * MIB < during - before < 120 * MIB


def test_shared_memory_does_not_count() -> None:
    process = child(HOLD_SHARED, 64 * MIB)
    used = tree_bytes(process.pid)
    close(process)
    assert used is not None
    assert used < 48 * MIB


def test_the_peak_outlives_the_process_that_made_it(monkeypatch) -> None:
    monkeypatch.setattr(memory, "SAMPLE_EVERY_S", 0.05)
    before = tree_bytes(os.getpid())
    assert before is not None
    with PeakMemory() as peak:
        process = child(HOLD, 96 * MIB)
        wait_for(lambda: (peak.peak_bytes or 0) > before + 60 * MIB, "the watch to see the child")
        close(process)
    after = tree_bytes(os.getpid())
    assert peak.peak_bytes is not None and after is not None
    assert peak.peak_bytes - after > 60 * MIB


def test_a_process_that_does_not_exist_has_no_figure() -> None:
    assert tree_bytes(2**22 + 1) is None
