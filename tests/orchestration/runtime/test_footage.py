"""Clips of the store as pictures: the very frames that were inverted, or a clear refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svgan_ray.config import InvertConfig
from svgan_ray.errors import InputError
from svgan_ray.orchestration.runtime.footage import aligned_footage, longest_clip
from svgan_ray.store import LatentStore, open_store
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.reading import open_video
from tests.footage import make_video, make_weights
from tests.inverted import invert_here


@pytest.fixture
def inverted(tmp_path: Path) -> tuple[LatentStore, str, Path]:
    video = make_video(tmp_path / "anna.mp4", 50, seed=1)
    weights = str(make_weights(tmp_path / "weights"))
    config = InvertConfig(videos=(str(video),), store=str(tmp_path / "store"), weights=weights)
    return open_store(config.store, create=True), invert_here(config), video


def test_the_footage_of_a_clip_is_what_the_encoder_saw(inverted: tuple[LatentStore, str, Path]) -> None:
    store, inversion_id, path = inverted
    record = longest_clip(store, inversion_id, "anna")
    batches = list(aligned_footage(store, record, 40, 32))
    assert max(len(batch) for batch in batches) < 40
    quad = store.read_clip(inversion_id, record.clip_id).quad.numpy()
    with open_video(path) as video:
        first = record.first_frame
        expected = crop_quads(video.read(first, first + 40), quad[:40], 32)
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_more_frames_than_there_are_is_all_of_them(inverted: tuple[LatentStore, str, Path]) -> None:
    store, inversion_id, _ = inverted
    record = longest_clip(store, inversion_id, "anna")
    frames = np.concatenate(list(aligned_footage(store, record, 10_000, 32)))
    assert len(frames) == record.frames


def test_another_file_under_the_name_is_refused(inverted: tuple[LatentStore, str, Path]) -> None:
    store, inversion_id, path = inverted
    record = longest_clip(store, inversion_id, "anna")
    make_video(path, 50, seed=2)
    with pytest.raises(InputError, match=r"anna\.mp4 is not the file that was tracked"):
        next(aligned_footage(store, record, 10, 32))


def test_a_subject_without_clips_is_named(inverted: tuple[LatentStore, str, Path]) -> None:
    store, inversion_id, _ = inverted
    with pytest.raises(InputError, match="no clip of ben"):
        longest_clip(store, inversion_id, "ben")
