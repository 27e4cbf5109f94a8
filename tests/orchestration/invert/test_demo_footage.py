"""The demo's subjects, rendered on first use and found again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.plan import footage_of
from svgan_ray.video.landmarks import read_sidecar
from svgan_ray.video.reading import open_video


def test_footage_is_rendered_once_with_landmarks(tmp_path: Path) -> None:
    folder = str(tmp_path / "footage")
    assert not demo_footage(False, folder, subjects=2, seconds=0.4)[0].exists()
    paths = demo_footage(True, folder, subjects=2, seconds=0.4)
    assert [path.name for path in paths] == ["subject-1.mp4", "subject-2.mp4"]
    for path in paths:
        with open_video(path) as video:
            assert video.info.frame_count == 10 == len(read_sidecar(path))
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in demo_footage(True, folder, 2, 0.4)] == before


def test_a_dry_run_names_footage_without_rendering_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = footage_of(InvertConfig(), render=False).sources
    assert [source.name for source in sources] == ["subject-1", "subject-2", "subject-3"]
    assert {source.version for source in sources} == {"to be rendered"}
    assert not (tmp_path / "demo").exists()
