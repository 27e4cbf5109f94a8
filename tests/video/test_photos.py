"""Photos come out as viewers show them, whatever their depth and transparency."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svgan_ray.errors import DataError
from svgan_ray.video.photos import Photo
from tests.video.media import DATA


def test_grey_in_16_bits_is_not_cut_off_at_white() -> None:
    pixels = Photo(DATA / "gray16.png").pixels
    deep = np.asarray(Image.open(DATA / "gray16.png")).astype(float)
    assert pixels.shape == (*deep.shape, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels - deep[..., None] / 257).max() <= 0.5
    assert pixels.std() > 20


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_grey(tmp_path: Path, mode: str) -> None:
    colours = np.full((8, 8, 4), (200, 200, 200, 255), np.uint8)
    colours[:, 4:] = (0, 0, 0, 0)
    picture = Image.fromarray(colours).convert(mode)
    picture.save(tmp_path / "a.png")
    pixels = Photo(tmp_path / "a.png").pixels
    assert np.abs(pixels[:, :4].astype(int) - 200).max() <= 8
    assert np.abs(pixels[:, 4:].astype(int) - 128).max() <= 1


def test_heic_is_read_or_named(tmp_path: Path) -> None:
    photo = tmp_path / "a.heic"
    photo.write_bytes((24).to_bytes(4) + b"ftypheic" + bytes(12))
    named = "not a picture" if importlib.util.find_spec("pillow_heif") else "pillow-heif"
    with pytest.raises(DataError, match=named):
        Photo(photo)
