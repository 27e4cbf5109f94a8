"""Crops go back where they came from: unchanged outside, faithful inside, soft in between."""

from __future__ import annotations

import numpy as np
import pytest

from svgan_ray.errors import DataError
from svgan_ray.video.cropping import crop_quads
from svgan_ray.video.pasting import paste_back
from tests.video.test_cropping import HEIGHT, WIDTH, frame_of, quad


def inside(corners: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Which pixels [HEIGHT, WIDTH] lie in a square, at least `margin` of its side from its edge."""
    centre, half = corners.mean(axis=0), (corners[3] - corners[0]) / 2
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    away = np.stack([x, y], axis=-1) - centre
    across, along = np.array([half, [-half[1], half[0]]])
    reach = max(np.hypot(*half) ** 2, 1e-9)
    share = np.maximum(np.abs(away @ across), np.abs(away @ along)) / reach
    return share <= 1 - 2 * margin


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize("half", [24.0, 50.0, 80.0])
@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
@pytest.mark.parametrize("side", [64, 128, 256])
def test_a_crop_comes_back_into_its_frame(half: float, angle: float, side: int) -> None:
    corners = quad((160.3, 120.7), half, angle)[None]
    frames = frame_of()[None]
    pasted = paste_back(frames, crop_quads(frames, corners, side), corners)
    outside = ~inside(corners[0], -1e-6)
    assert np.array_equal(pasted[0][outside], frames[0][outside])
    within = inside(corners[0])
    assert psnr_db(pasted[0][within], frames[0][within]) > 40


def test_whole_pixels_come_back_bit_for_bit() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)
    corners = np.stack([quad((52, 41), 32), quad((60, 45), 32)])
    assert np.array_equal(paste_back(frames, crop_quads(frames, corners, 64), corners), frames)


def test_an_edited_crop_shows_fully_in_the_middle_and_fades_towards_the_edge() -> None:
    frames = np.full((1, HEIGHT, WIDTH, 3), 40, np.uint8)
    corners = quad((160, 120), 80)[None]
    pasted = paste_back(frames, np.full((1, 64, 64, 3), 240, np.uint8), corners, feather=0.25)[0]
    assert (pasted[inside(corners[0], 0.25)] == 240).all()
    assert (pasted[~inside(corners[0])] == 40).all()
    row = pasted[120, 80:121, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert 130 <= row[20] <= 150  # half way
    assert np.diff(row).max() < 12  # nowhere a visible step


def test_what_hangs_over_the_border_is_cut_off() -> None:
    frames = frame_of()[None].repeat(3, axis=0)
    corners = np.stack([quad((5, 5), 40, 0.3), quad((315, 120), 60), quad((900, 900), 40)])
    pasted = paste_back(frames, crop_quads(frames, corners, 64), corners)
    for before, after, place in zip(frames, pasted, corners, strict=True):
        assert psnr_db(after, before) > 40
        assert np.array_equal(after[~inside(place, -1e-6)], before[~inside(place, -1e-6)])
    assert np.array_equal(pasted[2], frames[2])


def test_fine_detail_of_a_large_crop_is_averaged() -> None:
    y, x = np.mgrid[:512, :512]
    board = np.where((x + y) % 2, 255, 0).astype(np.uint8)[None, ..., None].repeat(3, -1)
    corners = quad((160.3, 120.7), 40, 0.2)[None]
    pasted = paste_back(np.full((1, HEIGHT, WIDTH, 3), 128, np.uint8), board, corners)
    assert np.abs(pasted.astype(int) - 128).max() < 12


FRAMES, CROPS = np.zeros((1, 20, 30, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
SQUARE = quad((15, 10), 5)[None]


@pytest.mark.parametrize(
    ("frames", "crops", "quads", "feather", "words"),
    [
        (FRAMES[0], CROPS, SQUARE, 0.1, "frames"),
        (FRAMES, CROPS.astype(float), SQUARE, 0.1, "crops"),
        (FRAMES, CROPS[:, :4], SQUARE, 0.1, "square"),
        (FRAMES, CROPS, SQUARE * np.nan, 0.1, "finite"),
        (FRAMES, CROPS, SQUARE + 3 * (np.arange(8) == 0).reshape(4, 2), 0.1, "parallelograms"),
        (FRAMES, CROPS, SQUARE, 0.0, "feather"),
        (FRAMES, CROPS, SQUARE, 0.6, "feather"),
    ],
)
def test_what_does_not_fit_is_refused(
    frames: np.ndarray, crops: np.ndarray, quads: np.ndarray, feather: float, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        paste_back(frames, crops, quads, feather)
