"""Plots by matplotlib, as SVG in a page's colours or as pictures, and the plots of motion.

Matplotlib is imported only when something is drawn, so that the rest of a report works without it.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.metrics.features import blocks_of, cut_windows, power_spectrum
from svgan_ray.report.page import SERIES_COLOURS, Html, side_by_side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Chart",
    "Line",
    "as_html",
    "as_picture",
    "as_png",
    "basis_spectrum",
    "courses",
    "draw",
    "drift",
    "mean_power_spectrum",
    "power_spectra",
    "trajectories",
]

_CHART_INCHES, _DPI = (5.6, 3.6), 100
_INK, _GRID = "#5c6773", "#d8dee5"
_PAGE_COLOURS = {_INK: "var(--soft)", _GRID: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES_COLOURS)
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

REAL, GENERATED = 0, 1  # colours of the charts
COMPONENTS = 4
WINDOW_S = 4.0
_COURSE_DISTANCE = 6.0


@dataclass(frozen=True)
class Line:
    """One curve; points that are not finite are left out. `colour` is one of the page's four."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"line {self.name!r} has {len(self.x)} x and {len(self.y)} y values")


@dataclass(frozen=True)
class Chart:
    """Lines over common axes; on a logarithmic axis values up to 0 are left out."""

    lines: Sequence[Line]
    x_label: str
    y_label: str
    log_y: bool = False
    log_x: bool = False


def draw(axes: Axes, chart: Chart) -> None:
    """Draw a chart on matplotlib axes; lines of one name share an entry of the legend."""
    named: set[str] = set()
    for line in chart.lines:
        points = _points(line, chart)
        label = line.name if line.name not in named else None
        axes.plot(*points.T, color=SERIES_COLOURS[line.colour], label=label, linewidth=1.3)
        named.add(line.name)
    if not any(len(_points(line, chart)) for line in chart.lines):
        axes.text(0.5, 0.5, "no finite values", ha="center", color=_INK, transform=axes.transAxes)
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    axes.set(xscale="log" if chart.log_x else "linear", yscale="log" if chart.log_y else "linear")
    axes.grid(color=_GRID, linewidth=0.8)
    if named:
        axes.legend(frameon=False, labelcolor=_INK)


def _points(line: Line, chart: Chart) -> npt.NDArray[np.float64]:
    """The points [N, 2] that can be drawn."""
    points = np.array([line.x, line.y], np.float64).T.reshape(-1, 2)
    shown = np.isfinite(points).all(1)
    for axis, is_log in enumerate((chart.log_x, chart.log_y)):
        shown &= (points[:, axis] > 0) | (not is_log)
    return points[shown]


def as_html(charts: Sequence[Chart]) -> Html:
    """The charts as SVG in a row that wraps, embedded in the page."""
    return side_by_side(*map(_svg, charts))


def _svg(chart: Chart) -> Html:
    from matplotlib import rc_context

    figure = _figure(1, 1)
    axes = figure.add_subplot()
    draw(axes, chart)
    axes.set_facecolor("none")
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color(_INK)
    axes.tick_params(which="both", color=_GRID, labelcolor=_INK)
    for side in axes.spines.values():
        side.set_color(_GRID)
    data = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "svgan-ray"}):  # keep text, fix ids
        figure.savefig(data, format="svg", transparent=True, metadata=_NO_METADATA)
    drawn = data.getvalue()
    for colour, name in _PAGE_COLOURS.items():
        drawn = drawn.replace(colour, name)
    label = html.escape(f"{chart.y_label} over {chart.x_label}")
    drawn = drawn[drawn.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return Html(f"<figure>{drawn}</figure>")


def as_picture(charts: Sequence[Chart]) -> npt.NDArray[np.uint8]:
    """The charts as one picture, about as high as wide, uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    columns = max(1, round(math.sqrt(len(charts))))
    rows = math.ceil(len(charts) / columns)
    figure = _figure(columns, rows)
    canvas = FigureCanvasAgg(figure)
    for number, chart in enumerate(charts):
        draw(figure.add_subplot(rows, columns, number + 1), chart)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_png(figure: Figure, dpi: float = 110) -> bytes:
    """A matplotlib figure as the bytes of a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return data.getvalue()


def _figure(columns: int, rows: int) -> Figure:
    from matplotlib.figure import Figure

    size = columns * _CHART_INCHES[0], rows * _CHART_INCHES[1]
    return Figure(figsize=size, dpi=_DPI, layout="constrained")


def basis_spectrum(basis: LatentBasis) -> list[Chart]:
    """Charts of each component's variance and of the share of all motion that the first ones contain."""
    number = [float(k) for k in range(1, basis.size + 1)]
    variance = basis.sigma.double().square()
    held = (variance.cumsum(0) / variance.sum() * basis.explained).tolist()
    return [
        Chart([Line("footage", number, basis.sigma.tolist(), REAL)], "component", "sigma", log_y=True),
        Chart([Line("footage", number, held, REAL)], "components", "variance held"),
    ]


def trajectories(
    real: Tensor, generated: Tensor, rate_hz: float, components: int = COMPONENTS
) -> list[Chart]:
    """One chart per component, with real and generated motion [T, K] over the same time."""
    charts = []
    for k in range(min(components, real.shape[1])):
        lines = [
            Line(name, (torch.arange(len(course)) / rate_hz).tolist(), course[:, k].tolist(), colour)
            for name, course, colour in (("real", real, REAL), ("generated", generated, GENERATED))
        ]
        charts.append(Chart(lines, "time [s]", f"component {k + 1}"))
    return charts


def power_spectra(
    real: Sequence[Tensor], generated: Sequence[Tensor], rate_hz: float, components: int = COMPONENTS
) -> list[Chart]:
    """Mean power of each component over windows of the footage and of the samples, all [T, K].

    Windows last four seconds, or as long as the longest clip allows.
    """
    longest = min(max(map(len, clips)) for clips in (real, generated))
    frames = min(round(WINDOW_S * rate_hz), longest)
    (real_power, frequency_hz), (power, _) = (_mean_power(c, frames, rate_hz) for c in (real, generated))
    charts = []
    for k in range(min(components, power.shape[1])):
        lines = [
            Line("real", frequency_hz.tolist(), real_power[:, k].tolist(), REAL),
            Line("generated", frequency_hz.tolist(), power[:, k].tolist(), GENERATED),
        ]
        charts.append(Chart(lines, "frequency [Hz]", f"power, component {k + 1}", log_y=True))
    return charts


def mean_power_spectrum(
    real: Sequence[Tensor], generated: Sequence[Tensor], rate_hz: float, window_s: float = 2.0
) -> Chart:
    """One chart of the power of footage and samples [T, K] over windows, as the mean of all components."""
    lines = []
    for name, clips, colour in (("real", real, REAL), ("generated", generated, GENERATED)):
        power, frequency_hz = _mean_power(clips, round(window_s * rate_hz), rate_hz)
        lines.append(Line(name, frequency_hz.tolist(), power.mean(1).tolist(), colour))
    return Chart(lines, "frequency [Hz]", "power, mean of components", log_y=True, log_x=True)


def courses(real: Tensor, generated: Tensor, rate_hz: float, components: int = 3) -> Chart:
    """The first components of real and generated motion [T, K] below each other in one chart."""
    lines = []
    for name, course, colour in (("real", real, REAL), ("generated", generated, GENERATED)):
        time_s = (torch.arange(len(course)) / rate_hz).tolist()
        for k in range(min(components, course.shape[1])):
            lines.append(Line(name, time_s, (course[:, k] - _COURSE_DISTANCE * k).tolist(), colour))
    return Chart(lines, "time [s]", f"components 1 to {components}, {_COURSE_DISTANCE:g} apart")


def _mean_power(clips: Sequence[Tensor], frames: int, rate_hz: float) -> tuple[Tensor, Tensor]:
    """Power [F, K] and frequencies [F], without the frequency 0, because the windows' mean is removed."""
    windows = cut_windows(blocks_of(clips, frames), frames).data
    power, frequency_hz = power_spectrum(windows, rate_hz)
    return power.mean(0)[1:], frequency_hz[1:]


def drift(generated: Tensor, rate_hz: float) -> list[Chart]:
    """Mean and standard deviation over samples [S, T, K] second by second; without drift they are 0 and 1."""
    every = round(rate_hz)
    shown = generated[:, ::every].double()  # [S, seconds, K]
    time_s = [float(second) for second in range(shown.shape[1])]
    deviation, mean = shown.std(0), shown.mean(0).abs()
    spread = [
        Line("real", time_s, [1.0] * len(time_s), REAL),
        Line("generated", time_s, deviation.mean(1).tolist(), GENERATED),
    ]
    offset = [
        Line("real", time_s, [0.0] * len(time_s), REAL),
        Line("generated", time_s, mean.mean(1).tolist(), GENERATED),
    ]
    place = "time within a sample [s]"
    return [
        Chart(spread, place, "deviation, mean of components"),
        Chart(offset, place, "distance of the mean"),
    ]
