"""Eyes and mouth, from landmarks and without."""

from __future__ import annotations

import numpy as np
import torch

from svgan_ray.stylegan.fitting.regions import (
    FIXED_REGIONS,
    fixed_regions,
    region_masks,
    region_weights,
    regions_of,
)


def test_fixed_boxes_cover_whole_rows_and_columns() -> None:
    masks = region_masks(fixed_regions(2), 128)
    expected = torch.zeros(2, 128, 128)
    expected[0, 45:68, 26:102] = 1
    expected[1, 82:110, 40:88] = 1
    assert torch.equal(masks, expected.expand(2, -1, -1, -1))
    assert region_masks(fixed_regions(1), 256).sum() == 4 * expected.sum()


def test_weights_have_a_mean_of_one() -> None:
    weight = region_weights(fixed_regions(1), 128, eye_weight=3, mouth_weight=1)
    assert torch.isclose(weight.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weight[0, 0, 50, 50] / weight[0, 0, 0, 0], torch.tensor(4.0))
    torch.testing.assert_close(weight[0, 0, 90, 50] / weight[0, 0, 0, 0], torch.tensor(2.0))


def test_landmarks_move_the_boxes_along_with_the_face() -> None:
    """A turned, larger crop: points at known places of it come back as boxes there."""
    place = np.full((1, 68, 2), 0.5)
    place[:, 36:42], place[:, 42:48] = (0.3, 0.4), (0.7, 0.44)
    place[:, 48:68] = (0.5, 0.75)
    across, down, corner = np.array([80.0, 60.0]), np.array([-60.0, 80.0]), np.array([200.0, 30.0])
    quad = np.stack([corner, corner + down, corner + across + down, corner + across])[None]
    points = corner + place[..., :1] * across + place[..., 1:] * down
    boxes = regions_of(points, quad)
    eyes, mouth = boxes[0]
    assert eyes[0] < 0.4 < 0.44 < eyes[1] and eyes[2] < 0.3 < 0.7 < eyes[3]
    torch.testing.assert_close((mouth[0] + mouth[1]) / 2, torch.tensor(0.75))
    torch.testing.assert_close((mouth[2] + mouth[3]) / 2, torch.tensor(0.5))


def test_frames_without_a_face_have_the_fixed_boxes() -> None:
    points = np.full((2, 68, 2), np.nan)
    quads = np.tile(np.array([[0.0, 0], [0, 9], [9, 9], [9, 0]]), (2, 1, 1))
    assert torch.equal(regions_of(points, quads), FIXED_REGIONS.expand(2, -1, -1))
