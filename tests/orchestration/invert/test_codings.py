"""Footage as phones and browsers leave it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svgan_ray.store import LatentStore
from svgan_ray.video.landmarks import write_sidecar
from tests.footage import HEIGHT, WIDTH, face_frames, face_points, make_video
from tests.orchestration.invert.plain import config_for, run
from tests.video.media import encode, rotated

FRAMES = 40


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Plain H.264, the same as a phone records it upright, and AV1."""
    folder = tmp_path / "films"
    make_video(folder / "plain.mp4", FRAMES)
    pixels = face_frames(FRAMES)
    lying = encode(tmp_path / "lying.mp4", np.rot90(pixels, axes=(1, 2)))
    rotated(lying, folder / "turned.mp4", 90)
    encode(folder / "new.mp4", pixels, codec="libsvtav1", options={"preset": "12"})
    for name in ("turned", "new"):
        write_sidecar(folder / f"{name}.mp4", face_points(FRAMES))
    return folder


def test_footage_is_inverted_upright_whatever_it_is_coded_in(
    films: Path, weights: Path, store: LatentStore
) -> None:
    report = run(config_for(films, weights, store), store)

    assert (report.clips_committed, report.frames_encoded) == (3, 3 * FRAMES)
    tracks = list(store.tracks(report.tracking_id))
    assert {track.subject for track in tracks} == {"plain", "turned", "new"}
    assert {(track.width, track.height) for track in tracks} == {(WIDTH, HEIGHT)}, "all of them upright"
