"""One line of Ray's is dropped from standard error, and no other."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os
from svgan_ray.orchestration.runtime.false_alarms import FALSE_ALARM, without_false_alarm
os.write(2, b"before\\n")
with without_false_alarm():
    os.write(2, f"[C] Actor encoder {FALSE_ALARM}. If\\n".encode())
    os.write(2, b"within\\n")
    CRASH
os.write(2, b"after\\n")
"""


def errors(crash: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("CRASH", crash)], capture_output=True, text=True
    )
    return done.stderr.splitlines()


def test_that_line_is_dropped_and_all_others_are_handed_on() -> None:
    assert errors("pass") == ["before", "within", "after"]


def test_the_last_words_of_a_crash_are_seen() -> None:
    assert errors("os.abort()")[:2] == ["before", "within"]
