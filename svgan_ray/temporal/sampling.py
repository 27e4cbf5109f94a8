"""Sampling of any length in constant memory, and the offset trick that moves another subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from svgan_ray.latents.windows import seeded
from svgan_ray.temporal.generator import GeneratorState
from svgan_ray.temporal.model import MotionModel

__all__ = ["frame_noise", "generate", "sample_latents", "transfer"]

# Products of other sizes round differently, so frames are computed in blocks of one size at fixed places.
BLOCK_FRAMES = 64


def frame_noise(seed: int, sample: int, start: int, count: int, dim: int) -> Tensor:
    """Noise [count, dim] of the frames from `start` on; each frame's is a function of its number alone."""
    frames = range(start, start + count)
    noise = [torch.randn(dim, generator=seeded("frame", seed, sample, frame)) for frame in frames]
    return torch.stack(noise)


def sample_latents(
    model: MotionModel,
    seed: int,
    frames: int,
    sample: int = 0,
    truncation: float = 1.0,
    chunk_frames: int = 256,
) -> Iterator[Tensor]:
    """W+ [t, n, d] of one sample in chunks of `chunk_frames` (the last may be shorter), `frames` in all.

    The frames are the same whatever the chunks and however many are asked for. Truncation below 1 draws the
    motion towards the mean of the training footage.
    """
    blocks = _blocks(model, seed, sample)
    pending = torch.empty(0, model.basis.num_ws, model.basis.w_dim, device=model.w_ref.device)
    left = frames
    while left > 0:
        size = min(chunk_frames, left)
        while pending.shape[0] < size:
            pending = torch.cat([pending, _truncate(model, next(blocks), truncation)])
        yield pending[:size]
        pending, left = pending[size:], left - size


def generate(model: MotionModel, samples: int, frames: int, seed: int) -> Iterator[Tensor]:
    """What the generator emits [samples, t, F] for many samples at once, `frames` in all; for measuring.

    All noise comes from one random generator, which is faster than `frame_noise` and depends on `samples`.
    """
    random = seeded("generate", seed)
    shape = samples, BLOCK_FRAMES, model.config.generator.noise_dim
    left = frames
    for features in _warmed_up(model, lambda _: torch.randn(shape, generator=random)):
        yield features[:, :left]
        left -= features.shape[1]
        if left <= 0:
            return


def _blocks(model: MotionModel, seed: int, sample: int) -> Iterator[Tensor]:
    """W+ [t, n, d] of one sample without end."""

    def noise(start: int) -> Tensor:
        return frame_noise(seed, sample, start, BLOCK_FRAMES, model.config.generator.noise_dim)[None]

    return (model.decode(features[0]) for features in _warmed_up(model, noise))


@torch.no_grad()
def _warmed_up(model: MotionModel, noise_from: Callable[[int], Tensor]) -> Iterator[Tensor]:
    """Features [N, t, F] from frame 0 on, without end, t <= BLOCK_FRAMES; frames before 0 warm the state up.

    `noise_from(start)` gives the noise [N, BLOCK_FRAMES, noise_dim] of the frames from `start` on.
    """
    state: GeneratorState | None = None
    start = -model.config.generator.warm_up_frames
    while True:
        features, state = model.generator(noise_from(start).to(model.w_ref.device), state)
        if start + BLOCK_FRAMES > 0:
            yield features[:, max(0, -start) :]
        start += BLOCK_FRAMES


def _truncate(model: MotionModel, w_plus: Tensor, truncation: float) -> Tensor:
    return torch.lerp(model.basis.mean, w_plus, truncation) if truncation != 1 else w_plus


def transfer(
    w_plus: Tensor, w_ref: Tensor, w_new: Tensor, strength: float = 1.0, layers: Sequence[int] | None = None
) -> Tensor:
    """The offset trick: w_new + strength * (w_plus - w_ref), for W+ [T, n, d] and [n, d].

    w_ref is the first generated frame or the training subject's mean, w_new the other subject. Of the style
    vectors only `layers` move; the others stay w_new's.
    """
    moved = w_new + strength * (w_plus - w_ref)
    if layers is None:
        return moved
    moving = torch.zeros(w_new.shape[0], 1, dtype=torch.bool, device=w_new.device)
    moving[list(layers)] = True
    return torch.where(moving, moved, w_new)
