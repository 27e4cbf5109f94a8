"""A picture of an evaluation: model and rivals, distances, shares, spectra, motion, copying."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from svgan_ray.files import written_whole
from svgan_ray.metrics.evaluation import MotionReport, footage_coefficients, generate_coefficients
from svgan_ray.metrics.features import evaluation_basis
from svgan_ray.metrics.frechet import FrechetMotion
from svgan_ray.metrics.panel import SCORES
from svgan_ray.metrics.rivals import RIVALS
from svgan_ray.metrics.scores import Memorisation
from svgan_ray.report.plots import courses, draw, mean_power_spectrum
from svgan_ray.temporal.model import MotionModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_plots"]

_REAL, _GENERATED, _CONTROL = "#2563a8", "#c4541b", "#9aa5b1"
_SHOWN_SAMPLES, _SHOWN_S = 32, 10.0


def draw_plots(motion: MotionReport, model: MotionModel, real: Sequence[Tensor], path: Path) -> None:
    """Write a PNG, whole or not at all; `real` are clips of W+ [T, n, d]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    basis = evaluation_basis(model.basis)
    frames = round(_SHOWN_S * model.frame_rate_hz)
    generated = generate_coefficients(model, basis, _SHOWN_SAMPLES, frames, seed=0)
    footage = [clip.cpu() for clip in footage_coefficients(model, basis, real)]
    figure = Figure(figsize=(15, 12), layout="constrained")
    FigureCanvasAgg(figure)
    (standing, scores, judged), (short, long, shares), (spectra, motions, copying) = figure.subplots(3, 3)
    _draw_standings(standing, scores, judged, motion)
    for axes, frechet in zip((short, long), motion.frechet, strict=True):
        _draw_distances(axes, frechet)
    _draw_shares(shares, motion)
    rate_hz = model.frame_rate_hz
    draw(spectra, mean_power_spectrum(footage, list(generated), rate_hz))
    spectra.set_title("Power of motion, mean over components")
    draw(motions, courses(max(footage, key=len)[:frames], generated[0], rate_hz))
    motions.set_title("First three components")
    _draw_copying(copying, motion.memorisation)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _draw_standings(standing: Axes, scores: Axes, judged: Axes, motion: MotionReport) -> None:
    """Motion distance, the panel's scores in their bars and what the judge sees, of all that was compared."""
    every = motion.standings
    colours = [_standing_colour(of) for of in every]
    distances = [one.motion_distance for one in every.values()]
    standing.bar_label(standing.barh(list(every), distances, color=colours), fmt="%.3g", padding=3)
    standing.margins(x=0.2)
    standing.invert_yaxis()
    standing.set_title("Motion distance, smaller is better")
    for place, (of, one) in enumerate(every.items()):
        heights = [number + place / (len(every) + 1) for number in range(len(one.in_bars))]
        size = 1 / (len(every) + 1)
        scores.barh(heights, list(one.in_bars.values()), size, color=_standing_colour(of))
        areas = [judgement.auc for judgement in one.judgements]
        noises = [f"{judgement.noise:g}" for judgement in one.judgements]
        judged.plot(noises, areas, "o-", color=_standing_colour(of), label=of)
    scores.set_yticks([number + 0.4 for number in range(len(SCORES))], SCORES)
    scores.axvline(1.0, color=_REAL)
    scores.invert_yaxis()
    scores.set_title("The panel's scores")
    scores.set_xlabel("multiples of their bars")
    judged.axhline(0.5, color=_CONTROL)
    judged.set_title("What the judge tells from footage")
    judged.set_xlabel("noise on both sides, deviations")
    judged.set_ylabel("area under its curve")
    judged.legend(fontsize="small")


def _standing_colour(of: str) -> str:
    rivals = (_CONTROL, "#6b7785", "#c9d1d9")
    names = [f"rival: {name}" for name in RIVALS]
    return rivals[names.index(of)] if of in names else _colour(of)


def _draw_distances(axes: Axes, shown: FrechetMotion) -> None:
    axes.set_title(f"Frechet motion, {shown.window_s:g} s windows")
    bars = {**shown.controls, **shown.compared}
    if not math.isfinite(shown.floor):
        _write_note(axes, shown.verdict)
        return
    colours = [_CONTROL] * len(shown.controls) + [_colour(of) for of in shown.compared]
    axes.bar_label(axes.barh(list(bars), list(bars.values()), color=colours), fmt="%.3g", padding=3)
    axes.axvline(1.0, color=_REAL)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel(_wrapped(f"multiples of the real-to-real floor; {shown.verdict}"))


def _colour(of: str) -> str:
    return _GENERATED if of.startswith("generated") else _REAL


def _wrapped(text: str) -> str:
    """As wide as a panel."""
    return textwrap.fill(text, 58)


def _draw_shares(axes: Axes, motion: MotionReport) -> None:
    bars = {"diversity": motion.diversity, "jitter above 6 Hz": motion.jitter}
    if motion.angle is not None:
        bars["angle"] = motion.angle / (math.pi / 4)
    axes.bar_label(axes.barh(list(bars), list(bars.values()), color=_GENERATED), fmt="%.3g", padding=3)
    axes.axvline(1.0, color=_REAL)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_title("Diversity, jitter and angle")
    axes.set_xlabel("times real; the angle in π/4")


def _draw_copying(axes: Axes, found: Memorisation | None) -> None:
    axes.set_title("Copying: nearer to training footage?")
    if found is None:
        _write_note(axes, "needs held-out footage (--snapshot)")
        return
    sides = {"held-out footage": found.held_out_ratios, "generated": found.ratios}
    colours = [_REAL, _GENERATED]
    axes.hist(
        [ratios.log2().numpy() for ratios in sides.values()],
        bins=30,
        density=True,
        label=list(sides),
        color=colours,
    )
    axes.set_xlabel(_wrapped(f"log2 of the ratio, below 0 nearer to training; {found.verdict}"))
    axes.set_yticks([])
    axes.legend()


def _write_note(axes: Axes, why: str) -> None:
    """An empty panel says why."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, _wrapped(why), ha="center", va="center", transform=axes.transAxes)
