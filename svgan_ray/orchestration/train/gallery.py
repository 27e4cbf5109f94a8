"""A self-contained page of a training: videos, film strip, charts of the motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from svgan_ray.metrics.features import EVALUATION_COMPONENTS
from svgan_ray.orchestration.train.data import TrainingSet
from svgan_ray.report.page import Html, embedded_video, page, paragraph, picture, section, table
from svgan_ray.report.plots import Chart, as_html, basis_spectrum, drift, power_spectra, trajectories
from svgan_ray.temporal.model import MotionModel

__all__ = ["GALLERY", "Shown", "charts_of", "gallery"]

GALLERY = "gallery.html"
COURSE_S = 10.0


@dataclass(frozen=True)
class Shown:
    """Videos of a model, side by side in one file, and a film strip of them."""

    video: bytes
    strip: npt.NDArray[np.uint8]  # [H, W, 3]
    labels: Sequence[str]


def charts_of(model: MotionModel, data: TrainingSet, generated: Tensor) -> dict[str, list[Chart]]:
    """Charts of a model's motion beside the footage's, by name.

    `generated` are evaluation coefficients [S, T, 16] of samples of a minute, the first ones of the basis.
    """
    rate_hz = model.frame_rate_hz
    real = [data.coefficients[first:stop, :EVALUATION_COMPONENTS] for first, stop in data.segments]
    course = round(COURSE_S * rate_hz)
    return {
        "Motion trajectories": trajectories(max(real, key=len)[:course], generated[0, :course], rate_hz),
        "Power spectra": power_spectra(real, list(generated), rate_hz),
        "Drift within a minute": drift(generated, rate_hz),
        "Basis spectrum": basis_spectrum(model.basis),
    }


def gallery(
    steps: int, charts: Mapping[str, Sequence[Chart]], shown: Shown, scores: Mapping[str, float]
) -> Html:
    """The page of a model after `steps` steps."""
    rows = [[name, f"{value:.3g}"] for name, value in sorted(scores.items())]
    return page(
        f"Motion after {steps:,} steps",
        paragraph("Videos marked as samples never happened. Real motion has variance 1 in each component."),
        section(
            "Side by side: " + ", ".join(shown.labels),
            embedded_video(shown.video, "real, then samples", 1024),
        ),
        section("Film strip", picture(shown.strip, "each row is one video, time goes to the right")),
        *(section(name, as_html(drawn)) for name, drawn in charts.items()),
        section(
            "Scores",
            table(["score", "value"], rows)
            if rows
            else paragraph("The footage is too short to be measured."),
        ),
    )
