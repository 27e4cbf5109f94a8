"""The motion distance, one number for how far motion is from footage, and the scores that it is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.metrics.frechet import FrechetMotion
from svgan_ray.metrics.judge import NOISES, Judgement, judge
from svgan_ray.metrics.panel import SCORES, Panel, footage_bars

__all__ = ["CHEAP_NOISES", "Standing", "Yardstick", "floors_by_place", "mean_floors"]

FRECHET_BAR_FLOORS = 2.0
JUDGED_BAR = 0.1
"""The bar of the judge: how far the area under its curve may be above 0.5, which is guessing."""
CHEAP_NOISES = NOISES[1:]
"""Noises of the judge. Without noise, it detects almost all generated motion, so it could not rank models."""
PANEL_S = 1800.0
LIMIT = 1e6
"""Motion is clipped to this many standard deviations, so that motion that explodes can be measured, too."""


@dataclass(frozen=True)
class Standing:
    """The scores of some motion compared with footage."""

    scores: Mapping[str, float]
    bars: Mapping[str, float]
    judgements: tuple[Judgement, ...]
    floors: float
    """Mean Frechet distance over window lengths and places in a sample; nan if it cannot be measured."""

    @property
    def in_bars(self) -> dict[str, float]:
        """The panel's scores as multiples of their bars."""
        return {name: self.scores[name] / self.bars[name] for name in SCORES}

    @property
    def over(self) -> list[str]:
        """The panel's scores that miss their bars."""
        return [name for name, value in self.in_bars.items() if value > 1]

    @property
    def motion_distance(self) -> float:
        """The score that models are compared by; smaller is better, and new footage gets about 0.7.

        It is the mean of eight scores divided by their bars: the panel's seven scores and the Frechet
        distance (whose bar is 2 floors). The judge's part is added to it: the area under its curve above 0.5,
        with noise of 0.1 and 0.3 deviations, divided by 0.1. The panel measures the shape and the order of
        motion, the Frechet distance its amplitude and its drift within a minute, the judge all other
        differences. Parts for which the footage is too short are left out; the result is nan if all are.
        """
        parts = [*self.in_bars.values(), self.floors / FRECHET_BAR_FLOORS]
        known = [part for part in parts if not math.isnan(part)]
        seen = [one.auc - 0.5 for one in self.judgements if one.noise > 0 and not math.isnan(one.auc)]
        judged = max(0.0, sum(seen) / len(seen)) / JUDGED_BAR if seen else 0.0
        return sum(known) / len(known) + judged if known else math.nan

    def values(self) -> dict[str, float]:
        """Flat names and values, without the scores for which the footage is too short."""
        panel = {f"panel/{name}": value for name, value in self.in_bars.items()}
        judged = {f"judge/noise_{one.noise:g}": one.auc for one in self.judgements}
        values = {"motion_distance": self.motion_distance, **panel, **judged}
        return {name: value for name, value in values.items() if not math.isnan(value)}


class Yardstick:
    """Footage, clips [T, K] of one evaluation basis, with which any number of motions can be compared."""

    def __init__(self, footage: Sequence[Tensor], rate_hz: float) -> None:
        self.footage = [clip.float() for clip in footage]
        self.rate_hz = rate_hz
        self.panel = Panel(self.footage, rate_hz)
        self.bars = footage_bars(self.footage, rate_hz)

    def measure(
        self, motion: Sequence[Tensor], floors: float = math.nan, noises: Sequence[float] = NOISES
    ) -> Standing:
        """Compare motion, clips [T, K], with the footage; the panel measures at most half an hour of it."""
        clips = [torch.nan_to_num(clip.float()).clamp(-LIMIT, LIMIT) for clip in motion]
        if not all(bool(clip.isfinite().all()) for clip in motion):
            floors = math.inf
        judged = tuple(judge(self.footage, clips, self.rate_hz, noises))
        seen = max(1, math.ceil(PANEL_S * self.rate_hz / max(map(len, clips))))
        return Standing(self.panel.scores(clips[:seen]), self.bars, judged, floors)


def floors_by_place(frechet: Sequence[FrechetMotion]) -> list[list[float]]:
    """Distances of generated motion for each window length, from the start of a sample to its end.

    Window lengths for which the footage is too short are left out, unless it is too short for all of them.
    """
    measured = [motion for motion in frechet if math.isfinite(motion.floor)]
    fit = [motion for motion in measured if motion.verdict == "fit"] or measured
    return [[v for of, v in motion.compared.items() if of.startswith("generated")] for motion in fit]


def mean_floors(frechet: Sequence[FrechetMotion]) -> float:
    """Mean Frechet distance over places in a sample and window lengths, in floors; nan if there is none."""
    values = [value for places in floors_by_place(frechet) for value in places]
    return sum(values) / len(values) if values else math.nan
