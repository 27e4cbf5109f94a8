"""A store with the tracks of two drawn heads, and random networks of 32 px."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.store import LatentStore, open_store
from tests.footage import make_video
from tests.orchestration.invert.plain import track_only


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> LatentStore:
    """Anna and Ben, 12 s each, tracked and not inverted."""
    folder = tmp_path_factory.mktemp("tracked")
    for seed, name in enumerate(("anna", "ben"), 1):
        make_video(folder / "footage" / f"{name}.mp4", 300, seed=seed)
    store = open_store(folder / "store", create=True)
    track_only(folder / "footage", weights, store)
    return store
