"""Photos come out as viewers show them, whatever their depth and transparency."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
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


@pytest.fixture
def heic(tmp_path: Path) -> Path:
    """The head of an HEIC file, which is no whole picture."""
    photo = tmp_path / "a.heic"
    photo.write_bytes((24).to_bytes(4) + b"ftypheic" + bytes(12))
    return photo


def test_without_pillow_heif_heic_is_named(heic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    with pytest.raises(
        DataError,
        match=r"HEIC needs the package pillow-heif; install it, or save",
    ):
        Photo(heic)


def test_with_pillow_heif_pillow_opens_heic(heic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a package that opens the file as the real one does: it registers itself with Pillow."""
    from PIL import ImageFile

    class Opener(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode = (4, 2), "RGB"

        def load(self) -> Any:
            self.im = Image.new("RGB", (4, 2), (10, 20, 30)).im
            return None

    known = dict(Image.OPEN), list(Image.ID)
    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("HEIF", Opener)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    try:
        assert Photo(heic).pixels.tolist() == [[[10, 20, 30]] * 4] * 2
        heic.write_bytes(heic.read_bytes()[:12])
    finally:
        Image.OPEN, Image.ID = known


def test_a_real_heic_is_upright(tmp_path: Path) -> None:
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[:48, :, 0] = pixels[:, 64:, 1] = 200
    picture = pillow_heif.from_pillow(Image.fromarray(pixels))
    exif = Image.Exif()
    exif[0x112] = 6  # held so that the camera's right side is up
    picture.info["exif"] = exif.tobytes()
    picture.save(tmp_path / "a.heic", quality=95)
    shown = Photo(tmp_path / "a.heic").pixels
    assert shown.shape == (128, 96, 3)
    assert np.abs(shown.astype(int) - np.rot90(pixels, -1)).mean() < 3
    (tmp_path / "half.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:400])
    with pytest.raises(DataError, match=r"not a picture that can be read \(") as raised:
        Photo(tmp_path / "half.heic")
    assert "install" not in str(raised.value)
