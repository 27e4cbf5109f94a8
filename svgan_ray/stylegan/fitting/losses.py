"""The losses of a fitted generator: the footage's pixels and edges, and optional further losses.

x is a batch of images, y the generator's pictures of them, both [N, 3, S, S] in [-1, 1]. Every loss gives one
number for each sample [N], so that a mean over a batch is the same for any number of workers.

    reconstruction  L1 + 2 L2 + absolute differences of gradients at scales 1, 2, 4, weighted by region
    energy          the logarithm of the ratio of a picture's energy to the image's, in fine octaves
    locality        pictures of other latents than the footage's stay as they were (Roich et al., "Pivotal
                    Tuning for Latent-based Editing of Real Images", 2021, section 3.2)
    adversarial     non-saturating (Goodfellow et al., 2014) with R1 (Mescheder et al., 2018)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan_ray.stylegan.encoder import Encoder

__all__ = [
    "EncoderFeatures",
    "PerceptualDistance",
    "adversarial_loss",
    "discriminator_loss",
    "energy_loss",
    "r1_penalty",
    "reconstruction_loss",
]

PerceptualDistance = Callable[[Tensor, Tensor], Tensor]
"""A function of two batches of pictures that returns their distances [N], as LPIPS does."""

_SCALES = (1, 2, 4)
_OCTAVES = 2
_EPSILON = 1e-4  # added to energies: far below a picture's energy, above what 8 bits can represent


def reconstruction_loss(pictures: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """L1 + 2 L2 + |gradients| at scales 1, 2, 4; weight [N, 1, S, S] has a mean of one."""
    difference = pictures - images
    loss = _mean(weight * (difference.abs() + 2 * difference.square()))
    for scale in _SCALES:
        d, w = F.avg_pool2d(difference, scale), F.avg_pool2d(weight, scale)
        loss = loss + _mean(w[..., 1:] * d.diff(dim=3).abs()) + _mean(w[..., 1:, :] * d.diff(dim=2).abs())
    return loss


def energy_loss(pictures: Tensor, images: Tensor) -> Tensor:
    """|log(energy of y / energy of x)| of each of the two finest octaves, around every position.

    A reconstruction loss alone blurs detail whose exact position it cannot predict. This loss asks for the
    right amount of detail, and the reconstruction loss decides where it is.
    """
    loss = torch.zeros_like(images[:, 0, 0, 0])
    for y, x in zip(_octaves(pictures), _octaves(images), strict=True):
        loss = loss + _mean((_local_energy(y).log() - _local_energy(x).log()).abs())
    return loss


def adversarial_loss(discriminator: nn.Module, pictures: Tensor) -> Tensor:
    """softplus(-D(y)), which the generator minimises."""
    return _mean(F.softplus(-discriminator(pictures)))


def discriminator_loss(discriminator: nn.Module, pictures: Tensor, images: Tensor) -> Tensor:
    """softplus(D(y)) + softplus(-D(x)), which the discriminator minimises."""
    return _mean(F.softplus(discriminator(pictures))) + _mean(F.softplus(-discriminator(images)))


def r1_penalty(discriminator: nn.Module, images: Tensor) -> Tensor:
    """|dD/dx|^2 / 2 at real images; D is summed over its positions."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)) / 2


class EncoderFeatures:
    """Perceptual distance of pictures: the distance of their feature maps in a frozen encoder.

    Maps are normalised over their channels at every position, as in LPIPS (Zhang et al., 2018). Encoders
    whose input is two pictures (ReStyle) get the same picture twice.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder.eval().requires_grad_(False)

    def __call__(self, pictures: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = self._maps(images)
        distances = [
            _mean((y - x).square()) * x.shape[1] for y, x in zip(self._maps(pictures), theirs, strict=True)
        ]
        return torch.stack(distances).mean(dim=0)

    def _maps(self, x: Tensor) -> list[Tensor]:
        encoder, maps = self.encoder, list[Tensor]()
        x = encoder.input_layer(torch.cat([x, x], dim=1) if encoder.config.iterates else x)
        units = iter(encoder.body)
        for count in encoder.config.units[:3]:  # the last stage no longer holds where something is
            for _ in range(count):
                x = next(units)(x)
            maps.append(F.normalize(x.float() if x.dtype == torch.bfloat16 else x, dim=1))
        return maps


def _octaves(x: Tensor) -> list[Tensor]:
    """The two finest levels of a Laplacian pyramid (Burt and Adelson, 1983)."""
    bands = []
    for _ in range(_OCTAVES):
        coarse = F.avg_pool2d(x, 2)
        bands.append(x - F.interpolate(coarse, scale_factor=2, mode="bilinear"))
        x = coarse
    return bands


def _local_energy(band: Tensor) -> Tensor:
    """Mean square around every position, over all colours."""
    return F.avg_pool2d(band.square().mean(dim=1, keepdim=True), 8, 4, padding=2) + _EPSILON


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)
