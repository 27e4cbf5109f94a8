"""What does the basis represent? Each component alone, moved to both sides of the subject's mean.

    python analysis/basis.py --model demo/models/subject-1 --out reports/basis.html

The page shows a video of each component and the share of the motion that it explains. A picture of all of
them, with one row per component, is written beside the page.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from svgan_ray.report.page import (
    page,
    paragraph,
    picture,
    section,
    side_by_side,
    write_page,
)
from svgan_ray.report.player import player
from svgan_ray.report.plots import as_html, basis_spectrum
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_generator, weights_folders
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.rendering import render
from svgan_ray.video.pictures import film_strip, save_png

REACH = 2.5  # standard deviations to each side
SWING_S = 2.0
COLUMNS = 9


def swing(model: MotionModel, generator: Generator, component: int) -> npt.NDArray[np.uint8]:
    """Frames [T, S, S, 3] of one period: a component moves from the mean to one side, the other, and back."""
    frames = round(SWING_S * model.frame_rate_hz)
    coefficients = torch.zeros(frames, model.basis.size)
    coefficients[:, component] = REACH * torch.sin(2 * math.pi * torch.arange(frames) / frames)
    return np.concatenate(list(render(generator, [model.basis.reconstruct(coefficients)])))


def from_side_to_side(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The frames from the component's lowest to its highest value."""
    return np.roll(frames, len(frames) // 4, axis=0)[: len(frames) // 2 + 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--components", type=int, default=8, help="how many to show")
    parser.add_argument("--out", type=Path, default=Path("reports/basis.html"))
    options = parser.parse_args()

    model = load_model(options.model)
    generator = load_generator(weights_folders(options.weights)[0])
    shown = range(min(options.components, model.basis.size))
    swings = [swing(model, generator, component) for component in shown]
    variance = model.basis.sigma.square()
    share = (variance / variance.sum() * model.basis.explained).tolist()
    captions = [f"component {k + 1}, {share[k]:.1%} of the variance" for k in shown]
    strip = film_strip([from_side_to_side(s) for s in swings], COLUMNS, [f"{k + 1}" for k in shown])
    players = [player(s, model.frame_rate_hz, c) for s, c in zip(swings, captions, strict=True)]
    save_png(options.out.with_suffix(".png"), strip)
    document = page(
        f"The basis of {model.card.get('subject', 'a subject')}",
        paragraph(
            f"{model.basis.size} components hold {model.basis.explained:.1%} of the footage's variance."
        ),
        section("Components, each swung alone", side_by_side(*players)),
        section("From side to side", picture(strip, f"from -{REACH:g} to {REACH:g} standard deviations")),
        section("How much each one moves", as_html(basis_spectrum(model.basis))),
    )
    write_page(options.out, document)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
