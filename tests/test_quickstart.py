"""The commands of the quickstart, in order, on a small world in place of what `make demo` leaves."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from tests.inverted import draw_model, invert_here
from tests.test_docs import commands

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "docs" / "quickstart.md"


def follow_up() -> list[list[str]]:
    """What a person types between `make demo` and footage of their own."""
    typed = [words for words in commands(QUICKSTART) if words[0] == "python"]
    return [words for words in typed if any(word.startswith("demo/") for word in words)]


def test_what_follows_the_demo_works(tmp_path: Path) -> None:
    videos = demo_footage(folder=str(tmp_path / "demo/footage"), subjects=3, seconds=3.0)
    store = str(tmp_path / "demo/store")
    invert_here(InvertConfig(videos=tuple(map(str, videos)), store=store))
    draw_model(store, "demo", "subject-1", tmp_path / "demo/models/subject-1")
    typed = follow_up()
    assert len(typed) == 6
    for words in typed:
        command = [sys.executable, str(ROOT / words[1]), *words[2:]]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        assert (tmp_path / words[words.index("--out") + 1]).stat().st_size > 1000
