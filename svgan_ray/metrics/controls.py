"""Controls: real motion that is spoilt in known ways. A measure that does not detect them measures nothing.

The easy controls spoil amplitude and pace. The hard ones keep a person's variances, spectra and even
correlations, and change the rest: signs, the direction of time, which component leads which, the shape of
blinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from svgan_ray.metrics.features import Windows, blocks_of, cut_windows

__all__ = ["CONTROLS", "event_direction", "negative_controls", "spoilt"]

BLOCK_WINDOW_S = 2.0
EVENT_S = 0.4  # from the middle of an event to its end
TREND_S = 1.0
EVENT_SHARE = 0.5  # a peak of at least this share of the height of the highest ones is an event
STARTS, ITERATIONS = 24, 40
_STILL = 1e-6

Control = Callable[[list[Tensor], float, torch.Generator], list[Tensor]]
"""A function of blocks of footage [T, K], the frame rate and a random generator that returns spoilt
blocks."""


def negative_controls(blocks: Sequence[Tensor], window_frames: int) -> dict[str, Windows]:
    """Windows of the easy controls: real motion spoilt in five ways."""
    real = cut_windows(blocks, window_frames)
    mean = real.data.mean((0, 1))
    order = torch.rand(real.data.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(1)
    return {
        "constant": Windows(mean.expand_as(real.data), real.block),
        "frozen frame": Windows(real.data[:, :1].expand_as(real.data), real.block),
        "half amplitude": Windows(mean + (real.data - mean) / 2, real.block),
        "shuffled in time": Windows(real.data.gather(1, order[..., None].expand_as(real.data)), real.block),
        "double speed": cut_windows(blocks, window_frames, speed=2),
    }


def spoilt(footage: Sequence[Tensor], control: str, rate_hz: float, seed: int = 0) -> list[Tensor]:
    """Footage, clips [T, K], spoilt by one of `CONTROLS` in spans of up to 20 s."""
    blocks = [block.float() for block in blocks_of(footage, round(BLOCK_WINDOW_S * rate_hz))]
    return CONTROLS[control](blocks, rate_hz, torch.Generator().manual_seed(seed))


def event_direction(blocks: Sequence[Tensor], rate_hz: float) -> Tensor:
    """The direction [K] along which fast motion is the most skewed: that of blinks, if a face blinks.

    It is the projection of whitened data with the largest third moment, found by fixed-point iteration from
    many starts (Hyvarinen, "Fast and robust fixed-point algorithms for independent component analysis",
    1999).
    """
    fast = torch.cat([_fast(block, rate_hz) for block in blocks])
    variances, vectors = torch.linalg.eigh(torch.cov(fast.T))
    whitening = vectors / variances.clamp(min=_STILL * float(variances.max())).sqrt()
    white = (fast - fast.mean(0)) @ whitening  # [N, K]
    directions = torch.randn(white.shape[1], STARTS, generator=torch.Generator().manual_seed(0))
    for _ in range(ITERATIONS):
        directions = directions / directions.norm(dim=0).clamp(min=_STILL)
        directions = white.T @ (white @ directions).square() / len(white)
    directions = directions / directions.norm(dim=0).clamp(min=_STILL)
    skewness = ((white @ directions) ** 3).mean(0)
    direction: Tensor = whitening @ directions[:, skewness.argmax()]
    return direction


def _fast(block: Tensor, rate_hz: float) -> Tensor:
    """A block [T, K] without its slow motion, which changes over a second or more."""
    reach = round(TREND_S * rate_hz / 2)
    padded = torch.nn.functional.pad(block.T[None], (reach, reach), mode="replicate")
    return block - torch.nn.functional.avg_pool1d(padded, 2 * reach + 1, 1)[0].T


def _with_events(pace: float) -> Control:
    """Blinks played at another pace around their middle; with a pace of 0, they are removed."""

    def spoil(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
        direction = event_direction(blocks, rate_hz)
        courses = [_fast(block, rate_hz) @ direction for block in blocks]
        together = torch.cat(courses)
        high = EVENT_SHARE * float(together.sort().values[-max(1, len(together) // 1000)])
        moving = torch.cat([_fast(block, rate_hz) for block in blocks])
        shape = moving.T @ together / together.square().sum()  # [K], each component's part in an event
        return [
            block + torch.outer(_repaced(course, high, pace, rate_hz) - course, shape)
            for block, course in zip(blocks, courses, strict=True)
        ]

    return spoil


def _repaced(course: Tensor, high: float, pace: float, rate_hz: float) -> Tensor:
    """A course [T] in which every event above `high` is played at another pace."""
    reach = round(EVENT_S * rate_hz)
    changed = course.clone()
    end = 0
    for peak in _peaks(course, high):
        half = reach if pace == 0 or pace >= 1 else round(reach / pace)
        first, last = max(end, peak - half), min(len(course) - 1, peak + half)
        if peak - first < 2 or last - peak < 2:
            continue
        offset = torch.arange(first, last + 1)
        base = torch.lerp(course[first], course[last], (offset - first) / (last - first))
        if pace == 0:
            changed[first : last + 1] = base
        else:
            place = (peak + (offset - peak) * pace).clamp(
                max(0, peak - reach), min(len(course) - 1, peak + reach)
            )
            low = place.floor().long()
            later = (low + 1).clamp(max=len(course) - 1)
            changed[first : last + 1] = torch.lerp(course[low], course[later], place - low)
        end = last + 1
    return changed


def _peaks(course: Tensor, high: float) -> list[int]:
    """The frame of the maximum in each span in which a course [T] stays above `high`."""
    above = torch.nn.functional.pad((course > high).int(), (1, 1))
    begins, ends = ((above.diff() == step).nonzero().flatten().tolist() for step in (1, -1))
    return [first + int(course[first:last].argmax()) for first, last in zip(begins, ends, strict=True)]


def _mean(blocks: list[Tensor]) -> Tensor:
    return torch.cat(blocks).mean(0)


def _scaled(factor: float) -> Control:
    def spoil(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
        mean = _mean(blocks)
        return [mean + factor * (block - mean) for block in blocks]

    return spoil


def _mirrored(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    mean = _mean(blocks)
    signs = [torch.randint(0, 2, mean.shape, generator=random) * 2 - 1 for _ in blocks]
    return [mean + sign * (block - mean) for block, sign in zip(blocks, signs, strict=True)]


def _reversed(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    backwards = [torch.rand(block.shape[1], generator=random) < 0.5 for block in blocks]
    return [torch.where(back, block.flip(0), block) for block, back in zip(blocks, backwards, strict=True)]


def _phases_scrambled(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    """Add equal random phases to all components, which keeps cross-spectra (Prichard and Theiler, 1994)."""
    found = []
    for block in blocks:
        spectrum = torch.fft.rfft(block, dim=0)
        turned = torch.polar(
            torch.ones(len(spectrum)), 2 * torch.pi * torch.rand(len(spectrum), generator=random)
        )
        turned[0] = 1
        found.append(torch.fft.irfft(spectrum * turned[:, None], len(block), dim=0))
    return found


def _desynchronised(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    """Shift every component cyclically within its block, each by another amount."""
    found = []
    for block in blocks:
        shifts = torch.randint(0, len(block), (block.shape[1],), generator=random)
        places = (torch.arange(len(block))[:, None] + shifts) % len(block)
        found.append(block.gather(0, places))
    return found


def _frozen(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    return [block[:1].expand_as(block) for block in blocks]


def _shuffled(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    return [block[torch.randperm(len(block), generator=random)] for block in blocks]


def _doubled(blocks: list[Tensor], rate_hz: float, random: torch.Generator) -> list[Tensor]:
    return [block[::2] for block in blocks]


CONTROLS: dict[str, Control] = {
    "constant": _scaled(0.0),
    "frozen frame": _frozen,
    "half amplitude": _scaled(0.5),
    "shuffled in time": _shuffled,
    "double speed": _doubled,
    "sign-flipped": _scaled(-1.0),
    "components mirrored": _mirrored,
    "components reversed": _reversed,
    "phases scrambled": _phases_scrambled,
    "desynchronised": _desynchronised,
    "blinks half as long": _with_events(2.0),
    "blinks twice as long": _with_events(0.5),
    "blinks removed": _with_events(0.0),
}
