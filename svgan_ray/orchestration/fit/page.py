"""The page of a fit: held-out frames beside their pictures, and the course of the scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from svgan_ray.report.page import Html, bullets, page, paragraph, picture, section, table
from svgan_ray.report.plots import Chart, Line, as_html
from svgan_ray.stylegan.fitting import CONSENT, HeldOutScores
from svgan_ray.video.pictures import film_strip

__all__ = ["GALLERY", "Progress", "fit_page", "pair_strip"]

GALLERY = "gallery.html"
_TEXT = (
    "Frames that the fit was never trained on, and what the fitted encoder and generator make of them. "
    "The lower row is synthetic."
)


@dataclass
class Progress:
    """The scores so far, in the order of steps."""

    steps: list[int] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    elapsed_s: float = 0.0

    def add(self, step: int, scores: HeldOutScores, elapsed_s: float) -> None:
        """Add the scores of a step."""
        self.steps.append(step)
        self.scores.append(scores.to_dict())
        self.elapsed_s = elapsed_s

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def pair_strip(pairs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Frames and their pictures [2, N, s, s, 3] -> one picture, frames above."""
    return film_strip(list(pairs), pairs.shape[1], ["held out", "fitted"])


def fit_page(
    progress: Progress, strip: npt.NDArray[np.uint8], left_out: Sequence[str] = (), title: str = ""
) -> Html:
    """The whole page; `left_out` names spans of frames that are outliers."""
    last = progress.scores[-1]
    rows = [[name, *(f"{row[name]:.3g}" for row in (progress.scores[0], last))] for name in last]
    db = [name for name in last if name.endswith("_db")]
    lines = [
        Line(name.removesuffix("_db"), progress.steps, [row[name] for row in progress.scores], colour)
        for colour, name in enumerate(db)
    ]
    return page(
        title or f"Fitted for {progress.steps[-1]:,} steps",
        paragraph(CONSENT),
        section("Held-out frames", paragraph(_TEXT), picture(strip, "footage above, fitted below")),
        section("Scores on held-out frames", table(("score", "before", "now"), rows)),
        section("Course", as_html([Chart(lines, "step", "PSNR, dB")])),
        *([section("Left out", bullets(left_out))] if left_out else []),
    )
