"""What examples/ shows works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from svgan_ray.video.reading import open_video
from tests.mlflow_database import make_mlflow_database

ROOT = Path(__file__).parents[1]


@pytest.mark.cluster
def test_from_footage_to_a_video_in_python(tmp_path: Path) -> None:
    address = f"sqlite:///{make_mlflow_database(tmp_path)}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "from_python.py")],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_TRACKING_URI": address, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^clip \w+: 200 frames$", done.stdout, re.MULTILINE)) == 2
    assert "trained 200 steps" in done.stdout and "latents of 50 frames: [50, " in done.stdout
    with open_video(tmp_path / "example" / "sample.mp4") as video:
        assert video.info.frame_count == 50
