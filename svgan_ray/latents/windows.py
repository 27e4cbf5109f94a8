"""Training windows: all starts in the valid spans of all clips, drawn by (seed, step), gathered on device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from svgan_ray.errors import DataError

__all__ = ["WindowIndex", "gather", "seeded", "valid_segments", "window_starts"]

Segment = tuple[int, int]  # first and stop frame (exclusive) in the concatenated coefficients


def seeded(*key: str | int) -> torch.Generator:
    """A CPU random generator that depends on `key` alone, so that no random state needs to be saved."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def valid_segments(masks: Iterable[Tensor]) -> list[Segment]:
    """Spans of valid frames, from one boolean mask [T] per clip, in the concatenation of the clips."""
    segments: list[Segment] = []
    offset = 0
    for mask in masks:
        edges = torch.diff(torch.nn.functional.pad(mask.to(torch.int8), (1, 1)))
        firsts, stops = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
        pairs = zip(firsts.tolist(), stops.tolist(), strict=True)
        segments += [(offset + first, offset + stop) for first, stop in pairs]
        offset += mask.shape[0]
    return segments


def window_starts(segments: Sequence[Segment], window: int) -> Tensor:
    """Every frame at which a window starts that lies inside one segment, int64 [S].

    Raises DataError if there is no such frame.
    """
    starts = [torch.arange(first, stop - window + 1) for first, stop in segments if stop - first >= window]
    if not starts:
        longest = max((stop - first for first, stop in segments), default=0)
        raise DataError(
            f"no clip holds a window of {window} frames: the longest valid span has {longest}. "
            f"Add longer footage or train with window_frames <= {longest}."
        )
    return torch.cat(starts)


class WindowIndex:
    """Where the windows of a training set start; windows never cross clips or invalid frames."""

    def __init__(self, segments: Sequence[Segment], window: int) -> None:
        self.window = window
        self.starts = window_starts(segments, window)

    def __len__(self) -> int:
        return self.starts.shape[0]

    def draw(self, seed: int, step: int, batch: int) -> Tensor:
        """Window starts [batch] for one step, drawn with replacement; they depend on (seed, step) alone."""
        picks = torch.randint(len(self), (batch,), generator=seeded("windows", seed, step))
        return self.starts[picks]


def gather(coefficients: Tensor, starts: Tensor, window: int) -> Tensor:
    """Windows [N, window, K] of coefficients [F, K] that begin at `starts` [N]."""
    frames = starts[:, None] + torch.arange(window)
    return coefficients[frames.to(coefficients.device)]
