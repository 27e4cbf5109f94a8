"""Footage that the stages of an inversion are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.footage import make_bad_videos, make_video


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound videos, one longer than a block, and four bad ones."""
    folder = tmp_path_factory.mktemp("footage")
    make_video(folder / "anna.mp4", 150, seed=1)
    make_video(folder / "ben.mp4", 40, seed=2)
    make_bad_videos(folder / "bad")
    return folder
