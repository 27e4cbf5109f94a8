"""Pictures that show videos: film strips, contact sheets, PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svgan_ray.errors import DataError
from svgan_ray.files import written_whole

__all__ = ["contact_sheet", "film_strip", "save_png"]

Pixels = NDArray[np.uint8]

_GAP_PX = 2
_WHITE = 255


def film_strip(rows: Sequence[Pixels], columns: int, labels: Sequence[str] | None = None) -> Pixels:
    """Videos [T, H, W, 3] -> one picture [H', W', 3], with one row per video and time from left to right.

    Each row shows `columns` frames, evenly spread from the first to the last; labels are at the left.
    """
    if labels is not None and len(labels) != len(rows):
        raise DataError(f"film strip: {len(labels)} labels for {len(rows)} rows")
    if not rows or any(len(row) == 0 for row in rows):
        raise DataError("film strip: expected at least one row, and a frame in each")
    shown = [row[np.linspace(0, len(row) - 1, columns).round().astype(int)] for row in rows]
    strip = contact_sheet(np.concatenate(shown), columns)
    return strip if labels is None else np.concatenate([_label_column(labels, strip.shape[0]), strip], axis=1)


def contact_sheet(images: Pixels, columns: int) -> Pixels:
    """Images [N, H, W, 3] in rows of `columns`, with white gaps -> [H', W', 3]."""
    if images.ndim != 4 or len(images) == 0 or columns < 1:
        raise DataError(f"contact sheet: expected images [N >= 1, H, W, 3], got {list(images.shape)}")
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + _GAP_PX, width + _GAP_PX, channels), _WHITE, np.uint8)
    cells[:count, :height, :width] = images
    grid = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    sheet = grid.reshape(rows * (height + _GAP_PX), columns * (width + _GAP_PX), channels)
    return sheet[:-_GAP_PX, :-_GAP_PX]


def _label_column(labels: Sequence[str], height: int) -> Pixels:
    """Labels as black text on white, each centred beside its row: [height, W, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    row_height = (height + _GAP_PX) / len(labels)
    font = ImageFont.load_default(size=max(9, min(16, row_height / 5)))
    width = max(round(font.getlength(label)) for label in labels) + 12
    column = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(column)
    for number, label in enumerate(labels):
        draw.text((6, (number + 0.5) * row_height - _GAP_PX / 2), label, "black", font, anchor="lm")
    return np.asarray(column)


def save_png(path: str | Path, image: Pixels) -> None:
    """Write a picture [H, W, 3] as PNG; the file appears complete or not at all."""
    from PIL import Image

    with written_whole(path) as partial:
        Image.fromarray(image).save(partial, format="png")
