"""Which frames each step sees: a function of seed and step alone, so that a resumed fit sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from svgan_ray.latents.windows import seeded

__all__ = ["draw_frames"]


def draw_frames(groups: Sequence[Tensor], batch: int, seed: int, step: int) -> Tensor:
    """Frame numbers [batch] of one step, from those of each subject (int64 [T_k]).

    Subjects take turns, so that each is seen equally often however much footage there is of it. Every frame
    of a subject comes once before any comes again, each time in another order.
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
