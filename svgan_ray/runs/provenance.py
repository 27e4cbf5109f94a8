"""Tags on the code and the machine of a run, set by the process that opens it."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["program", "provenance"]


def program() -> str:
    """The file that this process was started with."""
    return Path(sys.argv[0]).name


def provenance(source: str) -> dict[str, str]:
    """The tags, under MLflow's own names if it has them; `source` is the program that was called."""
    tags = {"mlflow.source.name": source, "mlflow.source.type": "JOB", **_code()}
    with contextlib.suppress(KeyError, OSError):
        tags["mlflow.user"] = getpass.getuser()
    tags["svgan_ray.machine"] = f"{platform.node()}, {os.cpu_count()} cores, {platform.platform()}"
    return tags


@functools.cache
def _code() -> dict[str, str]:
    """The version and, if the package is in a git checkout, the commit and whether files were changed."""
    tags = {}
    with contextlib.suppress(PackageNotFoundError):
        tags["svgan_ray.version"] = version("svgan-ray")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _git("ls-files", "--error-unmatch", __file__)
        tags["mlflow.source.git.commit"] = _git("rev-parse", "HEAD")
        if _git("status", "--porcelain", "--untracked-files=no"):
            tags["svgan_ray.code_changed"] = "since that commit"
    return tags


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=5,
        check=True,
    )
    return done.stdout.strip()
