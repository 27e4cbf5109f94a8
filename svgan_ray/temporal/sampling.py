"""Sampling of any length in constant memory, and the offset trick that moves another subject."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.latents.windows import seeded
from svgan_ray.temporal.model import MotionModel

__all__ = ["Blend", "frame_noise", "generate", "latents_of_samples", "sample_latents", "transfer"]


def frame_noise(seed: int, sample: int, start: int, count: int, dim: int) -> Tensor:
    """Noise [count, dim] of the frames from `start` on; it is a function of (seed, sample, frame) alone."""
    frames = range(start, start + count)
    noise = [torch.randn(dim, generator=seeded("frame", seed, sample, frame)) for frame in frames]
    return torch.stack(noise)


@dataclass(frozen=True)
class Blend:
    """A second motion to blend into a sample: the motion of the same sample with another seed."""

    seed: int
    share: float = 0.5
    """0 is the first motion itself, 1 the second."""

    def mix(self, first: Tensor, second: Tensor) -> Tensor:
        """Noise between two noises, on a circle, so that it stays standard normal like both."""
        angle = self.share * math.pi / 2
        return math.cos(angle) * first + math.sin(angle) * second


def sample_latents(
    model: MotionModel,
    seed: int,
    frames: int,
    sample: int = 0,
    truncation: float = 1.0,
    chunk_frames: int = 256,
    blend: Blend | None = None,
) -> Iterator[Tensor]:
    """W+ [t, n, d] of one sample in chunks of `chunk_frames` (the last may be shorter), `frames` in all.

    The frames do not depend on `chunk_frames` or on how many frames are requested. A truncation below 1 moves
    the motion towards the mean of the training footage.
    """
    chunks = latents_of_samples(model, seed, frames, [sample], truncation, chunk_frames, blend)
    return (chunk[0] for chunk in chunks)


def latents_of_samples(
    model: MotionModel,
    seed: int,
    frames: int,
    samples: Sequence[int],
    truncation: float = 1.0,
    chunk_frames: int = 256,
    blend: Blend | None = None,
) -> Iterator[Tensor]:
    """W+ [N, t, n, d] of several samples at once; each equals, within 1e-5, the sample generated alone."""
    blocks = _blocks(model, seed, samples, blend)
    shape = len(samples), 0, model.basis.num_ws, model.basis.w_dim
    pending = torch.empty(shape, device=model.w_ref.device)
    left = frames
    while left > 0:
        size = min(chunk_frames, left)
        while pending.shape[1] < size:
            pending = torch.cat([pending, _truncate(model, next(blocks), truncation)], dim=1)
        yield pending[:, :size]
        pending, left = pending[:, size:], left - size


def generate(model: MotionModel, samples: int, frames: int, seed: int) -> Iterator[Tensor]:
    """The generator's output [samples, t, F] for many samples at once, `frames` in all; for measuring.

    All noise comes from one random generator, which is faster than `frame_noise` and depends on `samples`.
    """
    random = seeded("generate", seed)

    def noise(_: int, count: int) -> Tensor:
        drawn = torch.randn(samples, count, model.generator.noise_dim, generator=random)
        return drawn.to(model.w_ref.device)

    left = frames
    for features in model.generator.stream(noise):
        yield features[:, :left]
        left -= features.shape[1]
        if left <= 0:
            return


def _blocks(model: MotionModel, seed: int, samples: Sequence[int], blend: Blend | None) -> Iterator[Tensor]:
    """W+ [N, t, n, d] of endless samples, block by block."""
    dim = model.generator.noise_dim

    def noise(start: int, count: int) -> Tensor:
        def drawn(seed: int) -> Tensor:
            return torch.stack([frame_noise(seed, sample, start, count, dim) for sample in samples])

        mixed = blend.mix(drawn(seed), drawn(blend.seed)) if blend else drawn(seed)
        return mixed.to(model.w_ref.device)

    return (model.decode(features) for features in model.generator.stream(noise))


def _truncate(model: MotionModel, w_plus: Tensor, truncation: float) -> Tensor:
    return torch.lerp(model.basis.mean, w_plus, truncation) if truncation != 1 else w_plus


def transfer(
    w_plus: Tensor, w_ref: Tensor, w_new: Tensor, strength: float = 1.0, layers: Sequence[int] | None = None
) -> Tensor:
    """The offset trick: w_new + strength * (w_plus - w_ref), for W+ [T, n, d] and [n, d].

    w_ref is the first generated frame or the training subject's mean, and w_new is the other subject. Only
    the style vectors in `layers` move; all others keep the values of w_new.
    """
    moved = w_new + strength * (w_plus - w_ref)
    if layers is None:
        return moved
    moving = torch.zeros(w_new.shape[0], 1, dtype=torch.bool, device=w_new.device)
    moving[list(layers)] = True
    return torch.where(moving, moved, w_new)
