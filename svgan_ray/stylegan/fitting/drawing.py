"""The choice of frames for each step: it depends on seed and step alone, so a resumed fit sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from svgan_ray.latents.windows import seeded

__all__ = ["draw_frames"]


def draw_frames(groups: Sequence[Tensor], batch: int, seed: int, step: int) -> Tensor:
    """Frame numbers [batch] of one step, drawn from the frame numbers of each subject (int64 [T_k]).

    Subjects take turns, so each one is seen equally often, however much footage it has. Every frame of a
    subject is drawn once before any is drawn again, each time in a new order.
    """
    picks = []
    for place in range(step * batch, (step + 1) * batch):
        turn, number = divmod(place, len(groups))
        frames = groups[number]
        epoch, at = divmod(turn, len(frames))
        picks.append(frames[_order(len(frames), seed, number, epoch)[at]])
    return torch.stack(picks)


@lru_cache(maxsize=16)
def _order(count: int, seed: int, number: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=seeded("fitting", seed, number, epoch))
