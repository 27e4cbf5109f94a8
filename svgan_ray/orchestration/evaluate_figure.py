"""A figure of an evaluation: distances against the controls, spectra and motion against real footage."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from svgan_ray.metrics.evaluation import MotionReport, footage_coefficients, generate_coefficients
from svgan_ray.metrics.features import blocks_of, cut_windows, evaluation_basis, power_spectrum
from svgan_ray.temporal.model import MotionModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_figure"]

_REAL, _GENERATED = "#2563a8", "#c4541b"
_SHOWN_SAMPLES, _SHOWN_S = 32, 10.0


def draw_figure(motion: MotionReport, model: MotionModel, real: Sequence[Tensor], path: Path) -> None:
    """Write a PNG, whole or not at all; `real` are clips of W+ [T, n, d]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    basis = evaluation_basis(model.basis)
    frames = round(_SHOWN_S * model.frame_rate_hz)
    generated = generate_coefficients(model, basis, _SHOWN_SAMPLES, frames, seed=0)
    footage = footage_coefficients(model, basis, real)
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    distances, spectra, courses = figure.subplots(1, 3)
    _draw_distances(distances, motion)
    _draw_spectra(spectra, footage, list(generated), model.frame_rate_hz)
    _draw_courses(courses, max(footage, key=len)[:frames], generated[0], model.frame_rate_hz)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=120)
    os.replace(partial, path)


def _draw_distances(axes: Axes, motion: MotionReport) -> None:
    shown = motion.frechet[0]
    bars = {**shown.controls, **shown.compared}
    colours = ["#9aa5b1"] * len(shown.controls) + [_GENERATED] * len(shown.compared)
    axes.barh(list(bars), list(bars.values()), color=colours)
    axes.axvline(1.0, color=_REAL)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_title(f"Frechet motion, {shown.window_s:g} s windows")
    axes.set_xlabel("multiples of the real-to-real floor")


def _draw_spectra(axes: Axes, real: Sequence[Tensor], generated: Sequence[Tensor], rate_hz: float) -> None:
    frames = round(2 * rate_hz)
    for name, clips, colour in (("real", real, _REAL), ("generated", generated, _GENERATED)):
        windows = cut_windows(blocks_of(clips, frames), frames).data
        power, frequency_hz = power_spectrum(windows, rate_hz)
        axes.plot(frequency_hz[1:], power.mean((0, 2))[1:], color=colour, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title("Power of motion, mean over components")
    axes.set_xlabel("Hz")
    axes.legend()


def _draw_courses(axes: Axes, real: Tensor, generated: Tensor, rate_hz: float) -> None:
    for name, course, colour in (("real", real, _REAL), ("generated", generated, _GENERATED)):
        for component in range(3):
            time_s = [frame / rate_hz for frame in range(len(course))]
            label = name if component == 0 else None
            axes.plot(time_s, course[:, component].cpu() - 6 * component, color=colour, label=label, lw=1)
    axes.set_title("First three components")
    axes.set_xlabel("s")
    axes.set_yticks([])
    axes.legend(loc="upper right")
