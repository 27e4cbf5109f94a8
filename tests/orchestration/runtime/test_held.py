"""A training is begun once at a time, and a killed process leaves no lock behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime import held
from svgan_ray.orchestration.runtime.held import held_alone
from svgan_ray.store.folder import FolderBackend

HOLDER = """
import sys, time
from svgan_ray.orchestration.runtime.held import held_alone
with held_alone(sys.argv[1], "training a"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_says_who_is_at_work_and_a_killed_one_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = str(tmp_path / "runs" / "a")
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        words = rf"training a is at work already: process {holder.pid} on \S+, since \d{{4}}-"
        with pytest.raises(ConfigError, match=words), held_alone(folder, "training a"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with held_alone(folder, "training a"), held_alone(f"{folder}2", "training b"):
        pass


def test_on_s3_a_lock_that_is_renewed_holds_and_another_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same protocol over a folder, which has the verbs of S3."""
    monkeypatch.setattr(held, "RENEW_EVERY_S", 0.0)
    monkeypatch.setattr(held, "WATCHED_S", 4.0)
    backend = FolderBackend(tmp_path)
    with held._held_on_s3(backend, "a.lock", "training a"):
        words = f"at work already: process {os.getpid()} on"
        with pytest.raises(ConfigError, match=words), held._held_on_s3(backend, "a.lock", "training a"):
            pass
    assert backend.stat("a.lock") is None
    backend.put("a.lock", b'{"host": "gone", "process": 7, "since": "yesterday"}')
    with held._held_on_s3(backend, "a.lock", "training a"):
        assert b"gone" not in backend.get("a.lock")
