"""Line charts: as SVG inside a page, without script and in the page's colours, or as one picture."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from svgan_ray.report.page import SERIES_COLOURS, Html, side_by_side

__all__ = ["Chart", "Line", "as_html", "as_picture", "line_chart"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 12, 12, 36
_PICTURE_INCHES, _PICTURE_DPI = (5.6, 3.6), 100


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


def as_html(charts: Sequence[Chart]) -> Html:
    """The charts in a row, which wraps."""
    return side_by_side(*(line_chart(c.lines, c.x_label, c.y_label, log_y=c.log_y) for c in charts))


def as_picture(charts: Sequence[Chart]) -> npt.NDArray[np.uint8]:
    """The charts as one picture, about as high as wide, uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needed where pictures are drawn only
    from matplotlib.figure import Figure

    columns = max(1, round(math.sqrt(len(charts))))
    rows = math.ceil(len(charts) / columns)
    size = columns * _PICTURE_INCHES[0], rows * _PICTURE_INCHES[1]
    figure = Figure(figsize=size, dpi=_PICTURE_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for number, chart in enumerate(charts):
        axes = figure.add_subplot(rows, columns, number + 1)
        for line in chart.lines:
            points = np.array(_points(line, chart.log_y)).reshape(-1, 2)
            axes.plot(*points.T, color=SERIES_COLOURS[line.colour], label=line.name, linewidth=1.3)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label, yscale="log" if chart.log_y else "linear")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@dataclass(frozen=True)
class _Axis:
    """Maps values to places; `low` and `high` are already logarithms on a logarithmic axis."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool

    def place(self, value: float) -> float:
        value = math.log10(value) if self.is_log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        if self.is_log and len(powers) >= 2:
            return [10.0**k for k in powers]
        step = _round_step((self.high - self.low) / 5)
        places = [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [10.0**p for p in places] if self.is_log else places


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    width: int = 520,
    height: int = 260,
    log_y: bool = False,
) -> Html:
    """The lines over common axes with a legend. On a logarithmic axis values up to 0 are left out."""
    points = {id(line): _points(line, log_y) for line in lines}
    every = [point for line in points.values() for point in line]
    if not every:
        return Html(f"<p>{html.escape(y_label)}: no finite values</p>")
    x_axis = _axis([x for x, _ in every], _LEFT, width - _RIGHT, False)
    y_axis = _axis([y for _, y in every], height - _BOTTOM, _TOP, log_y)
    curves = "".join(_curve(line, points[id(line)], x_axis, y_axis) for line in lines)
    frame = _x_frame(x_axis, x_label, width, height) + _y_frame(y_axis, y_label, width)
    label = html.escape(f"{y_label} over {x_label}")
    return Html(
        f'<figure><svg role="img" aria-label="{label}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{frame}{curves}</svg>{_legend(lines)}</figure>'
    )


def _points(line: Line, log_y: bool) -> list[tuple[float, float]]:
    pairs = ((float(x), float(y)) for x, y in zip(line.x, line.y, strict=True))
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y)]


def _axis(values: list[float], start: float, stop: float, is_log: bool) -> _Axis:
    values = [math.log10(v) for v in values] if is_log else values
    low, high = min(values), max(values)
    is_constant = high - low <= 1e-9 * max(abs(low), abs(high), 1e-300)
    spare = max(abs(low), 1.0) * 0.5 if is_constant else 0.0  # a constant lies in the middle
    return _Axis(low - spare, high + spare, start, stop, is_log)


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)


def _curve(line: Line, points: list[tuple[float, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    places = " ".join(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in points)
    return f'<polyline class="series" stroke="{_colour(line)}" points="{places}"/>'


def _x_frame(axis: _Axis, label: str, width: int, height: int) -> str:
    bottom = height - _BOTTOM
    ticks = "".join(
        f'<line class="axis" x1="{axis.place(t):.1f}" x2="{axis.place(t):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text x="{axis.place(t):.1f}" y="{bottom + 15}" text-anchor="middle">{t:.4g}</text>'
        for t in axis.ticks()
    )
    middle = (_LEFT + width - _RIGHT) / 2
    return f'{ticks}<text x="{middle}" y="{height - 4}" text-anchor="middle">{html.escape(label)}</text>'


def _y_frame(axis: _Axis, label: str, width: int) -> str:
    ticks = "".join(
        f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" '
        f'y1="{axis.place(t):.1f}" y2="{axis.place(t):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{axis.place(t) + 4:.1f}" text-anchor="end">{t:.3g}</text>'
        for t in axis.ticks()
    )
    middle = (axis.start + axis.stop) / 2
    turned = f'transform="rotate(-90 12 {middle})"'
    return f'{ticks}<text x="12" y="{middle}" text-anchor="middle" {turned}>{html.escape(label)}</text>'


def _legend(lines: Sequence[Line]) -> str:
    named = {line.name: line for line in lines}  # curves of one name share an entry
    entries = "".join(
        f'<span style="color: {_colour(line)}">&#9632;</span> {html.escape(name)} '
        for name, line in named.items()
    )
    return f"<figcaption>{entries}</figcaption>"


def _colour(line: Line) -> str:
    return f"var(--series-{line.colour % len(SERIES_COLOURS)})"
