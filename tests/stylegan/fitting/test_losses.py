"""Losses against their equations, written out for one picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.stylegan.fitting.discriminator import PatchDiscriminator
from svgan_ray.stylegan.fitting.losses import (
    EncoderFeatures,
    adversarial_loss,
    discriminator_loss,
    energy_loss,
    r1_penalty,
    reconstruction_loss,
)

from .conftest import networks


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, 32, 32, generator=draws), torch.rand(3, 3, 32, 32, generator=draws)


def by_hand(y: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """One picture [3, 32, 32], weight [32, 32], pixel by pixel."""
    total = sum((w * (d.abs() + 2 * d**2)).sum() for d in y - x) / y.numel()
    for scale in (1, 2, 4):
        side = 32 // scale
        d = (y - x).reshape(3, side, scale, side, scale).mean(dim=(2, 4))
        v = w.reshape(side, scale, side, scale).mean(dim=(1, 3))
        across = [v[i, j] * (d[:, i, j] - d[:, i, j - 1]).abs() for i in range(side) for j in range(1, side)]
        down = [v[i, j] * (d[:, i, j] - d[:, i - 1, j]).abs() for i in range(1, side) for j in range(side)]
        total = total + torch.stack(across).mean() + torch.stack(down).mean()
    return torch.as_tensor(total)


def test_reconstruction_is_its_equation(pair: tuple[Tensor, Tensor]) -> None:
    pictures, images = pair
    weight = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    losses = reconstruction_loss(pictures, images, weight)
    for n in range(3):
        torch.testing.assert_close(losses[n], by_hand(pictures[n], images[n], weight[n, 0]))


def test_energy_sees_blur_and_not_where_detail_lies(pair: tuple[Tensor, Tensor]) -> None:
    _, images = pair
    blurred = F.avg_pool2d(images, 3, 1, 1)
    assert (energy_loss(images, images) == 0).all()
    assert (energy_loss(blurred, images) > 1).all()
    assert (energy_loss(images.flip(3), images) < 0.5 * energy_loss(blurred, images)).all()


def test_features_tell_an_edge_from_an_offset() -> None:
    """A perceptual distance: a moved edge is further than a change of the same squared error everywhere."""
    distance = EncoderFeatures(networks()[1])
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1
    moved = image.roll(2, dims=3)
    offset = image + (moved - image).square().mean().sqrt()
    assert distance(image, image).item() == 0
    assert distance(moved, image).item() > distance(offset, image).item()
    picture = moved.clone().requires_grad_()
    distance(picture, image).sum().backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0


class _Linear(nn.Module):
    """D(x) = <a, x>: its gradient penalty is |a|^2 / 2."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.a).sum(dim=(1, 2, 3), keepdim=True)


def test_adversarial_terms(pair: tuple[Tensor, Tensor]) -> None:
    pictures, images = pair
    a = 0.01 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(3))
    linear = _Linear(a)
    score = (pictures * a).sum(dim=(1, 2, 3))
    torch.testing.assert_close(adversarial_loss(linear, pictures), (1 + (-score).exp()).log())
    expected = (1 + score.exp()).log() + (1 + (-(images * a).sum(dim=(1, 2, 3))).exp()).log()
    torch.testing.assert_close(discriminator_loss(linear, pictures, images), expected)
    penalty = r1_penalty(linear, images)
    torch.testing.assert_close(penalty, (a.square().sum() / 2).expand(3))
    penalty.sum().backward()
    torch.testing.assert_close(linear.a.grad, 3 * a)


def test_discriminator_scores_patches(pair: tuple[Tensor, Tensor]) -> None:
    pictures, _ = pair
    discriminator = PatchDiscriminator()
    changed = pictures.clone()
    changed[:, :, :4, :4] += 1
    difference = (discriminator(changed) - discriminator(pictures)).abs()
    assert difference.shape == (3, 1, 4, 4)
    assert (difference[..., 0, 0] > 0).all() and (difference[..., 3, 3] == 0).all()
