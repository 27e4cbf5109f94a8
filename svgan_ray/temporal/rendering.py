"""Latents to pictures: the frozen synthesis network with constant noise images, so that nothing flickers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.resize import resize_antialiased

__all__ = ["render"]

BATCH_FRAMES = 16


@torch.no_grad()
def render(
    generator: Generator,
    w_plus_chunks: Iterable[Tensor],
    side: int | None = None,
    batch_frames: int = BATCH_FRAMES,
) -> Iterator[npt.NDArray[np.uint8]]:
    """W+ chunks [t, n, d] to frames uint8 [t, R, R, 3], `batch_frames` at a time; `side` resizes them.

    With another batch size, frames differ by one grey level at most.
    """
    for chunk in w_plus_chunks:
        for w_plus in chunk.split(batch_frames):
            images = generator.synthesis(w_plus, noise="const")  # [t, 3, R, R] in [-1, 1]
            if side is not None and side != images.shape[-1]:
                images = resize_antialiased(images, side)
            pixels = (images.clamp(-1, 1) + 1) * 127.5
            yield pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
