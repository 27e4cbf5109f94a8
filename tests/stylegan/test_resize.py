"""The antialiased resize against PIL's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from svgan_ray.stylegan.resize import resize_antialiased


@pytest.mark.parametrize(
    ("height", "width", "side"), [(1024, 1024, 256), (333, 333, 256), (300, 200, 128), (129, 129, 128)]
)
@pytest.mark.parametrize("picture", ["noise", "edges"])
def test_equals_pil_within_one_level(picture: str, height: int, width: int, side: int) -> None:
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if picture == "edges":
        pixels = np.where(pixels < 128, 0, 255).astype(np.uint8).repeat(5, axis=1)[:, :width]
    expected = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    actual = resize_antialiased(images, side)[0].permute(1, 2, 0).numpy()
    assert np.abs(actual - expected / 255).max() <= 1 / 255


def test_leaves_an_image_of_the_right_side_alone() -> None:
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(resize_antialiased(images, 64), images)


def test_is_differentiable() -> None:
    images = torch.rand(1, 3, 40, 40, requires_grad=True)
    resize_antialiased(images, 16).sum().backward()
    assert images.grad is not None
    assert float(images.grad.sum()) == pytest.approx(3 * 16 * 16, rel=1e-4)
