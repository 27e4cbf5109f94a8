"""Crops against pictures known analytically, beyond the border, and against the full antialiasing filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from svgan_ray.errors import DataError
from svgan_ray.video.cropping import crop_quads

WIDTH, HEIGHT = 320, 240


def quad(centre: tuple[float, float], half: float, angle: float = 0.0) -> np.ndarray:
    """A square [4, 2] in the order of the crop: top-left, bottom-left, bottom-right, top-right."""
    x = half * np.array([np.cos(angle), np.sin(angle)])
    y = np.array([-x[1], x[0]])
    c = np.array(centre)
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


def scene(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture [..., 3] given at every point; pixel centres lie at +0.5."""
    return np.stack(
        [127 + 100 * np.sin(x / 17 + y / 29), 127 + 100 * np.cos(x / 23 - y / 19), 40 + x / 3 + y / 4],
        axis=-1,
    )


def frame_of(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    return np.clip(scene(x, y).round(), 0, 255).astype(np.uint8)


def positions(corners: np.ndarray, side: int) -> np.ndarray:
    """Where the pixel centres of a crop lie in the frame: [side, side, 2]."""
    t = (np.arange(side) + 0.5) / side
    u, v = t[None, :, None], t[:, None, None]
    tl, bl, br, tr = corners
    return (1 - u) * (1 - v) * tl + (1 - u) * v * bl + u * v * br + u * (1 - v) * tr


@pytest.mark.parametrize("half", [20, 40, 50, 64, 90, 110])
@pytest.mark.parametrize("angle", [0.0, 0.3, -1.1, np.pi / 2])
def test_a_crop_samples_the_picture_where_the_quad_lies(half: float, angle: float) -> None:
    corners = quad((160.3, 120.7), half / np.hypot(1, 1) if angle not in (0, np.pi / 2) else half, angle)
    where = positions(corners, 64)
    expected = scene(where[..., 0], where[..., 1])
    crop = crop_quads(frame_of()[None], corners[None], 64)[0].astype(float)
    assert np.abs(crop - expected).max() < 2.5  # the filter flattens the waves a little
    # A twentieth of a pixel aside the picture fits worse: position is exact to well below a pixel.
    step = np.linalg.norm(where[0, 1] - where[0, 0])
    for aside in (np.array([0.05, 0]), np.array([0, 0.05])):
        moved = where + max(1.0, step) * aside
        off = np.abs(crop - scene(moved[..., 0], moved[..., 1])).mean()
        assert np.abs(crop - expected).mean() < off


@pytest.mark.parametrize("half", [30.0, 64.0, 100.0, 210.0, 330.0])
def test_position_to_a_fiftieth_of_a_pixel(half: float) -> None:
    y, x = np.mgrid[:700, :700] + 0.5
    ramp = np.stack([x / 4, y / 4, np.full_like(x, 7)], axis=-1).round().astype(np.uint8)
    centres = np.linspace((350.25, 348.5), (353.25, 345.5), 24, endpoint=False)
    quads = np.stack([quad(centre, half) for centre in centres])
    crops = crop_quads(np.broadcast_to(ramp, (24, *ramp.shape)), quads, 128)
    measured = crops[..., :2].mean(axis=(1, 2)) * 4
    assert np.abs((measured - centres).mean(axis=0)).max() < 0.02
    assert (crops[..., 2] == 7).all()


def test_a_quad_of_whole_pixels_comes_back_bit_for_bit() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 90, 120, 3), dtype=np.uint8)
    corners = np.repeat(quad((52, 41), 32)[None], 3, axis=0)
    assert np.array_equal(crop_quads(frames, corners, 64), frames[:, 9:73, 20:84])
    turned = crop_quads(frames, np.roll(corners, 1, axis=1), 64)
    assert np.array_equal(turned, np.rot90(frames[:, 9:73, 20:84], axes=(1, 2)))


def test_what_lies_outside_the_frame_is_mirrored() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), dtype=np.uint8)
    padded = np.pad(frames, ((0, 0), (40, 40), (40, 40), (0, 0)), mode="symmetric")
    for centre in ((10, 12), (70, 8), (5, 55), (79, 59), (0, 30), (-20, 30)):
        left, top = centre[0] - 20 + 40, centre[1] - 20 + 40
        crop = crop_quads(frames, quad(centre, 20)[None], 40)
        assert np.array_equal(crop, padded[:, top : top + 40, left : left + 40]), centre


def test_a_quad_larger_than_the_frame_is_filled_by_mirroring() -> None:
    frames = np.full((1, 30, 40, 3), 90, np.uint8)
    assert (crop_quads(frames, quad((20, 15), 300, 0.4)[None], 64) == 90).all()


@pytest.mark.parametrize("ratio", [1.05, 1.4, 2.0, 2.7, 4.0])
def test_reduction_is_antialiased(ratio: float) -> None:
    """A checkerboard finer than the crop's pixels turns grey; noise comes near to the triangle filter."""
    y, x = np.mgrid[:700, :700]
    noise = np.random.default_rng(0).integers(0, 256, (1, 700, 700, 3)).astype(np.uint8)
    corners = quad((350, 350), 64 * ratio)[None]
    if ratio >= 2:
        board = np.where((x + y) % 2, 255, 0).astype(np.uint8)[None, ..., None].repeat(3, -1)
        assert np.abs(crop_quads(board, corners, 128).astype(float) - 127.5).max() < 26
    low, high = round(350 - 64 * ratio), round(350 + 64 * ratio)
    part = torch.from_numpy(noise[:, low:high, low:high]).permute(0, 3, 1, 2).double()
    ideal = F.interpolate(part, (128, 128), mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()
    crop = crop_quads(noise, corners, 128).astype(float)
    assert np.corrcoef(crop.ravel(), ideal.ravel())[0, 1] > 0.9
    assert crop.std() < 1.65 * ideal.std()


def test_sharpness_does_not_jump_where_a_face_outgrows_the_crop() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    smaller, larger = (
        crop_quads(noise, quad((150.2, 150.3), half, 0.2)[None], 128).astype(float).std()
        for half in (63.99, 64.01)
    )
    assert larger == pytest.approx(smaller, rel=0.2)


def test_a_crop_depends_on_its_own_frame_alone() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 200, 300, 3), dtype=np.uint8)
    frames.flags.writeable = False  # as blocks of Ray Data are
    corners = np.stack(
        [quad((rng.uniform(0, 300), 90), rng.uniform(10, 150), rng.uniform(-1, 1)) for _ in range(5)]
    )
    together = crop_quads(frames, corners.astype(np.float32), 96)
    for number in range(5):
        alone = crop_quads(frames[number : number + 1], corners[number : number + 1].astype(np.float32), 96)
        assert np.array_equal(together[number], alone[0])


@pytest.mark.parametrize(
    ("frames", "quads"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 4, 2))),
        (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 4, 2))),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 4, 2))),
        (np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 4, 2), np.nan)),
    ],
)
def test_other_shapes_and_nan_are_refused(frames: np.ndarray, quads: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected"):
        crop_quads(frames, quads, 8)


def test_no_frames_give_no_crops() -> None:
    assert crop_quads(np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 4, 2)), 16).shape == (0, 16, 16, 3)
