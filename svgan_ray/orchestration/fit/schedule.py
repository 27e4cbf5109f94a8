"""The frame that each place of a batch sees at each step: a function of seed and step on every worker.

Frames are numbered through all footage, subject after subject. Each place in the batch has its own stretch of
one subject's frames. So a worker, which computes some of the places, needs only their footage, and the batch
is the same for any number of workers. Footage that does not fit in memory is cut into portions: all places
see each frame of the first portion once, then those of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch

from svgan_ray.latents.windows import seeded

__all__ = ["Mask", "Schedule", "stretches"]

Mask = npt.NDArray[np.bool_]
Span = tuple[int, int]


def stretches(counts: Sequence[int], places: int) -> tuple[Span, ...]:
    """The frames [first, stop) of each place, if subject k has `counts[k]` frames.

    Subjects take turns at the places; the lengths of one subject's stretches differ by at most one frame.
    """
    firsts, subjects = np.cumsum([0, *counts]).tolist(), len(counts)
    spans = []
    for place in range(places):
        subject, turn = place % subjects, place // subjects
        turns = len(range(subject, places, subjects))
        first, count = firsts[subject], counts[subject]
        spans.append((first + count * turn // turns, first + count * (turn + 1) // turns))
    return tuple(spans)


@dataclass(frozen=True)
class Schedule:
    """The stretches of all places, cut into portions."""

    stretches: tuple[Span, ...]
    portions: int = 1
    seed: int = 0

    def span(self, place: int, portion: int) -> Span:
        """The frames [first, stop) of a place in a portion."""
        first, stop = self.stretches[place]
        count = stop - first
        return first + count * portion // self.portions, first + count * (portion + 1) // self.portions

    def portion_of(self, place: int, frame: int) -> int:
        """The portion that a frame of a place's stretch lies in."""
        return next(p for p in range(self.portions) if frame < self.span(place, p)[1])

    def portion_at(self, step: int) -> int:
        """The portion that a step's frames come from."""
        return self._at(step)[0]

    def frame(self, place: int, step: int, left_out: Mask) -> int:
        """The number of the frame that a place sees at a step; frames in `left_out` [F] are skipped.

        Every frame is seen once before any is seen again, each time in a new order.
        """
        portion, draws = self._at(step)
        first, stop = self.span(place, portion)
        frames = first + np.flatnonzero(~left_out[first:stop])
        frames = frames if len(frames) else np.arange(first, stop)
        epoch, at = divmod(draws, len(frames))
        return int(frames[_order(len(frames), self.seed, place, portion, epoch)[at]])

    def _at(self, step: int) -> tuple[int, int]:
        """A step's portion, and the number of draws of each place from it before this step."""
        cycle, rest = divmod(step, sum(self._lengths))
        portion = 0
        while rest >= self._lengths[portion]:
            rest -= self._lengths[portion]
            portion += 1
        return portion, cycle * self._lengths[portion] + rest

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """The number of steps of each portion: until the longest of its spans was seen once."""
        spans = [[self.span(place, p) for place in range(len(self.stretches))] for p in range(self.portions)]
        return tuple(max(stop - first for first, stop in row) for row in spans)


@lru_cache(maxsize=256)
def _order(count: int, seed: int, place: int, portion: int, epoch: int) -> npt.NDArray[np.int64]:
    draws = seeded("fitting", seed, place, portion, epoch)
    order: npt.NDArray[np.int64] = torch.randperm(count, generator=draws).numpy()
    return order
