"""A head as `make cluster-up` starts it, in a folder that holds a small experiment in place of the demo's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.free_port import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A running head: the folder that jobs run in, and how to submit to it."""

    folder: Path
    address: str
    environment: dict[str, str]

    def ray(
        self, *arguments: str, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `ray ...` as somebody would who followed docs/cluster.md."""
        return subprocess.run(
            [str(ROOT / ".venv/bin/ray"), *arguments],
            cwd=cwd or self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with running_head(tmp_path_factory.mktemp("checkout")) as head:
        yield head


@contextmanager
def running_head(folder: Path, more_environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Head]:
    """A head that runs jobs in `folder`; what its environment holds, its jobs have too."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", ".venv", "jobs", "cluster"):
        (folder / name).symlink_to(ROOT / name)
    scratch = Path(tempfile.mkdtemp(prefix="sr-"))  # short: Ray puts sockets in it
    (scratch / "home").mkdir()
    address = f"http://127.0.0.1:{(dashboard_port := free_port())}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))
    }
    environment |= {
        "HOME": str(scratch / "home"),  # a token of its own
        "SVGAN_RAY_HEAD_DIR": str(scratch / "ray"),
        "SVGAN_RAY_HEAD_PORT": str(free_port()),
        "SVGAN_RAY_DASHBOARD_PORT": str(dashboard_port),
        "SVGAN_RAY_HEAD_FLAGS": "--num-cpus=2 --object-store-memory=200000000 "
        f"--dashboard-agent-listen-port={free_port()}",
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": address,
        **more_environment,
    }
    try:
        make(folder, environment, "cluster-up")
        yield Head(folder, address, environment)
    finally:
        make(folder, environment, "cluster-down")
        shutil.rmtree(scratch, ignore_errors=True)


def make(folder: Path, environment: dict[str, str], target: str) -> None:
    command = ["make", "-o", ".venv/.ready", target]  # the shared .venv is never set up from this folder
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
