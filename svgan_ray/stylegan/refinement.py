"""Latents fitted to their pictures after the encoder: an offset to W+, optimised over a span of video.

Optimisation recovers details that an encoder misses (Abdal et al., "Image2StyleGAN", ICCV 2019). Without
constraints it fits noise and leaves the region of latents that the encoder uses. Three terms prevent that.
The offset stays small. It changes slowly over time, so that no jitter is added. The latents accelerate
little, so that the encoder's own jitter is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from svgan_ray.errors import ConfigError, DataError

__all__ = ["RefinementConfig", "refine"]

Synthesis = Callable[[Tensor], Tensor]
PerceptualLoss = Callable[[Tensor, Tensor], Tensor]

_SCALES = (1, 2, 4)


@dataclass(frozen=True)
class RefinementConfig:
    """How latents are fitted; weights are relative to the squared error of pixels in [-1, 1].

    Where a video is fitted span by span, each span includes `overlap_frames` frames of its neighbours. They
    are fitted too and then dropped, so that there is no jump between spans.
    """

    steps: int = 100
    learning_rate: float = 0.03
    gradient_weight: float = 1.0
    distance_weight: float = 0.001
    smoothness_weight: float = 10.0
    acceleration_weight: float = 15.0
    perceptual_weight: float = 0.1
    overlap_frames: int = 8

    def __post_init__(self) -> None:
        for name, lowest in (("steps", 1), ("overlap_frames", 0)):
            if (value := getattr(self, name)) < lowest:
                raise ConfigError(f"refinement {name}: expected {lowest} or more, got {value}")
        if not self.learning_rate > 0:
            raise ConfigError(
                f"refinement learning_rate: expected a number above 0, got {self.learning_rate}"
            )


def refine(
    images: Tensor,
    w_plus: Tensor,
    synthesis: Synthesis,
    config: RefinementConfig,
    batch_frames: int = 4,
    perceptual: PerceptualLoss | None = None,
) -> Tensor:
    """Frames in a row [T, 3, S, S] in [-1, 1] and the encoder's w_plus [T, num_ws, w_dim] -> w_plus, fitted.

    `synthesis` must give the same picture every time (constant noise). `batch_frames` pictures with gradients
    are in memory at once. `perceptual`, if given, takes two batches of pictures and returns their distances
    [N], for example LPIPS with a network that the user has imported.
    """
    if len(images) != len(w_plus):
        raise DataError(f"refine: expected as many images as latents, got {len(images)} and {len(w_plus)}")
    # The caller may be in inference mode, whose tensors cannot take part in a backward pass.
    with torch.inference_mode(False), torch.enable_grad():
        images, start = images.clone(), w_plus.clone()
        offset = torch.zeros_like(start, requires_grad=True)  # [T, num_ws, w_dim]
        optimiser = torch.optim.Adam([offset], lr=config.learning_rate, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        for _ in range(config.steps):
            optimiser.zero_grad()
            _course_loss(start, offset, config).backward()
            for frames in _batches(len(images), batch_frames):
                loss = _picture_loss(
                    synthesis(start[frames] + offset[frames]), images[frames], config, perceptual
                )
                loss.backward()
            optimiser.step()
            schedule.step()
        return start + offset.detach()


def _batches(frames: int, batch_frames: int) -> Iterator[slice]:
    for first in range(0, frames, batch_frames):
        yield slice(first, min(first + batch_frames, frames))


def _course_loss(start: Tensor, offset: Tensor, config: RefinementConfig) -> Tensor:
    """The loss on latents, over all frames: size of the offset, its change over time, and acceleration."""
    distance = offset.square().mean(dim=(1, 2)).sum()
    change = offset.diff(dim=0).square().mean(dim=(1, 2)).sum()
    acceleration = (start + offset).diff(n=2, dim=0).square().mean(dim=(1, 2)).sum()
    return (
        config.distance_weight * distance
        + config.smoothness_weight * change
        + config.acceleration_weight * acceleration
    )


def _picture_loss(
    pictures: Tensor, images: Tensor, config: RefinementConfig, perceptual: PerceptualLoss | None
) -> Tensor:
    """The loss on pixels and on edges at several scales, summed over frames; the larger picture is pooled."""
    pictures, images = _pooled(pictures, images.shape[-1]), _pooled(images, pictures.shape[-1])
    difference = pictures - images
    loss = _mean_square(difference)
    for scale in _SCALES:
        coarse = F.avg_pool2d(difference, scale)
        edges = _mean_square(coarse.diff(dim=2)) + _mean_square(coarse.diff(dim=3))
        loss = loss + edges * (config.gradient_weight / len(_SCALES))
    if perceptual is not None:
        loss = loss + perceptual(pictures, images) * config.perceptual_weight
    return loss.sum()


def _mean_square(x: Tensor) -> Tensor:
    return x.square().mean(dim=(1, 2, 3))


def _pooled(x: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(x, x.shape[-1] // side) if x.shape[-1] > side else x
