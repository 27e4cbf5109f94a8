"""Charts of motion, real beside generated, in the subject's own basis: real motion has variance 1 there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.metrics.features import blocks_of, cut_windows, power_spectrum
from svgan_ray.report.charts import Chart, Line

__all__ = ["basis_spectrum", "drift", "power_spectra", "trajectories"]

REAL, GENERATED = 0, 1  # colours of the charts
COMPONENTS = 4
WINDOW_S = 4.0


def basis_spectrum(basis: LatentBasis) -> list[Chart]:
    """How much each component moves, and the share of all motion that the first ones hold together."""
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
    """One chart a component, real and generated [T, K] over the same time."""
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
    """Mean power of each component over windows of the footage and of samples, all [T, K].

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


def _mean_power(clips: Sequence[Tensor], frames: int, rate_hz: float) -> tuple[Tensor, Tensor]:
    """Power [F, K] and frequencies [F]; the constant is left out, as windows are taken without their mean."""
    windows = cut_windows(blocks_of(clips, frames), frames).data
    power, frequency_hz = power_spectrum(windows, rate_hz)
    return power.mean(0)[1:], frequency_hz[1:]


def drift(generated: Tensor, rate_hz: float) -> list[Chart]:
    """Mean and standard deviation over samples [S, T, K] second by second: 0 and 1 where nothing drifts."""
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
