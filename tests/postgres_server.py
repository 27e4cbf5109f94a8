"""A real PostgreSQL on loopback, for tests; run as an unprivileged user, as it refuses root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.free_port import free_port

START_POSTGRES = Path(__file__).parents[1] / "cluster" / "start_postgres.sh"


@contextmanager
def postgres_server() -> Iterator[dict[str, str]]:
    """Addresses MLFLOW_DATABASE and OPTUNA_DATABASE; skips the test where PostgreSQL is not installed."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("needs the system package `postgresql`")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # not tmp_path, which the server's user cannot reach
    command = [str(START_POSTGRES), str(folder), str(free_port())]
    try:
        started = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
        yield dict(line.split("=", 1) for line in started.stdout.splitlines())
    finally:
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int((folder / "data/postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)  # at once: nothing to save
        shutil.rmtree(folder, ignore_errors=True)
