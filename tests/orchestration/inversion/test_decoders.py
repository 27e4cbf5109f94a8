"""Footage is inverted to the same bits whichever decoder reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from svgan_ray.store import LatentStore, open_store
from svgan_ray.video.landmarks import write_sidecar
from tests.footage import HEIGHT, WIDTH, face_frames, face_points, make_video
from tests.orchestration.inversion.plain import config_for, run
from tests.video.media import encode, rotated

FRAMES = 40


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Plain H.264, the same as a phone records it upright, and AV1, which decord does not know."""
    folder = tmp_path / "films"
    make_video(folder / "plain.mp4", FRAMES)
    pixels = face_frames(FRAMES)
    lying = encode(tmp_path / "lying.mp4", np.rot90(pixels, axes=(1, 2)))
    rotated(lying, folder / "turned.mp4", 90)
    encode(folder / "new.mp4", pixels, codec="libsvtav1", options={"preset": "12"})
    for name in ("turned", "new"):
        write_sidecar(folder / f"{name}.mp4", face_points(FRAMES))
    return folder


def test_with_decord_and_on_a_platform_without(
    films: Path, weights: Path, store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders, work = invert(films, weights, store)
    assert decoders == {"plain": "decord", "turned": "decord", "new": "pyav"}
    monkeypatch.setitem(sys.modules, "decord", None)
    without = open_store(tmp_path / "without", create=True)
    assert invert(films, weights, without) == (dict.fromkeys(decoders, "pyav"), work)


def invert(films: Path, weights: Path, store: LatentStore) -> tuple[dict[str, str], dict[str, str]]:
    """By subject: who decoded it, and the hash of all its latents."""
    report = run(config_for(films, weights, store), store)
    assert (report.clips_committed, report.frames_encoded) == (3, 3 * FRAMES)
    tracks = list(store.tracks(report.tracking_id))
    assert {(track.width, track.height) for track in tracks} == {(WIDTH, HEIGHT)}, "all of them upright"
    decoders = {track.subject: track.decoder for track in tracks}
    commits = store.commits(report.inversion_id)
    return decoders, {commit.subject: commit.work_sha256 for commit in commits}
