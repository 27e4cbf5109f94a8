"""The first analysis program, as a person runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from svgan_ray.config import InvertConfig
from tests.footage import make_video, make_weights
from tests.inverted import draw_model, invert_here

ROOT = Path(__file__).parents[1]


def test_real_and_generated_motion_on_one_page(tmp_path: Path) -> None:
    video = make_video(tmp_path / "anna.mp4", 150, seed=1)
    weights = str(make_weights(tmp_path / "weights"))
    store = str(tmp_path / "store")
    invert_here(InvertConfig(videos=(str(video),), store=store, weights=weights))
    draw_model(store, weights, "anna", tmp_path / "model")
    flags = ["--model", "model", "--store", store, "--weights", weights]
    flags += ["--seconds", "8", "--out", "a/page.html"]
    program = ROOT / "analysis" / "real_and_generated.py"
    done = subprocess.run(
        [sys.executable, str(program), *flags], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    document = (tmp_path / "a" / "page.html").read_text()
    assert "Real and generated motion of anna" in document
    assert len(re.findall(r"<img src=\"data:image/png", document)) == 1
    assert document.count("<svg") == 8  # a course and a spectrum of four components
    assert document.count("<polyline") == 16  # real and generated in each
    assert not re.search(r'(src|href)="(?!data:)', document)  # nothing outside the page
