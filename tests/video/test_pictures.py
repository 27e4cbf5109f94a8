"""Film strips and sheets put every picture where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svgan_ray.errors import DataError
from svgan_ray.video.pictures import contact_sheet, film_strip, save_png


def flat(values: list[int], height: int = 20, width: int = 30) -> np.ndarray:
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), height, width, 3))


def test_a_strip_shows_time_from_left_to_right() -> None:
    rows = [flat(list(range(0, 101))), flat(list(range(100, 151)))]
    strip = film_strip(rows, columns=5)
    assert strip.shape == (2 * 20 + 2, 5 * 30 + 4 * 2, 3)
    centres = strip[10::22, 15::32, 0]
    assert centres.tolist() == [[0, 25, 50, 75, 100], [100, 112, 125, 138, 150]]


def test_labels_stand_left_of_their_rows() -> None:
    rows = [flat([7] * 4, 40, 40), flat([9] * 4, 40, 40)]
    plain = film_strip(rows, 3)
    labelled = film_strip(rows, 3, labels=["seed 0", "subject b, seed 11"])
    width = labelled.shape[1] - plain.shape[1]
    assert np.array_equal(labelled[:, width:], plain)
    ink = (labelled[:, :width] < 128).any(axis=(1, 2))
    assert ink[:40].any()
    assert ink[42:].any()
    assert (labelled[[0, 41, -1], :width] == 255).all()  # nothing runs over into another row
    assert not np.array_equal(labelled[:40, :width], labelled[42:, :width])


def test_a_sheet_leaves_missing_cells_white() -> None:
    sheet = contact_sheet(flat([1, 2, 3, 4, 5]), columns=3)
    assert sheet[10::22, 15::32, 0].tolist() == [[1, 2, 3], [4, 5, 255]]


def test_png_comes_back(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    save_png(tmp_path / "new" / "a.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("rows", "labels"),
    [([], None), ([flat([])], None), ([flat([1])], ["a", "b"])],
    ids=["none", "empty", "labels"],
)
def test_nothing_to_show_is_refused(rows: list, labels: list | None) -> None:
    with pytest.raises(DataError, match="film strip"):
        film_strip(rows, 3, labels)
