"""Does motion drift? Generated motion over a minute and more, compared with the footage.

    python analysis/drift.py --model demo/models/subject-1 --store demo/store --out reports/drift.html

Real motion has mean 0 and standard deviation 1 in each component, at any time. The page shows how far samples
move away from that, second by second, how far their motion is from the footage's at several times, and the
same samples at their start, in the middle and at their end. A film strip of them, with time to the right, is
written beside the page.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.metrics.evaluation import footage_coefficients, generate_coefficients, score_motion
from svgan_ray.metrics.features import evaluation_basis
from svgan_ray.orchestration.runtime.snapshots import named_snapshot
from svgan_ray.orchestration.train.data import resampled_clips
from svgan_ray.report.page import (
    Html,
    page,
    paragraph,
    picture,
    section,
    side_by_side,
    table,
    write_page,
)
from svgan_ray.report.player import player
from svgan_ray.report.plots import as_html, drift
from svgan_ray.store import open_store
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_generator, weights_folders
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents
from svgan_ray.video.pictures import film_strip, save_png

SHOWN_SAMPLES, SHOWN_S = 3, 4.0
COLUMNS = 11


def distances(real: Sequence[Tensor], generated: Tensor, rate_hz: float) -> Html:
    """Fréchet motion between clips [T, K] and samples [S, T, K], by position and window length."""
    try:
        report = score_motion(real, generated, rate_hz)
    except DataError as error:
        return paragraph(f"Not measured: {error}.")
    rows = [
        [
            f"{motion.window_s:g} s",
            of.removeprefix("generated "),
            f"{value:.2f}" if math.isfinite(value) else "",
            motion.verdict,
        ]
        for motion in report.frechet
        for of, value in motion.compared.items()
        if of.startswith("generated")
    ]
    return table(["windows", "place in the sample", "distance, 1 is real against real", "measure"], rows)


def span(model: MotionModel, generator: Generator, latents: Tensor, begin_s: float) -> npt.NDArray[np.uint8]:
    """Frames [T, S, S, 3] of a sample's W+ [T, n, d], starting at `begin_s`."""
    first = round(begin_s * model.frame_rate_hz)
    frames = round(SHOWN_S * model.frame_rate_hz)
    return np.concatenate(list(render(generator, [latents[first : first + frames]])))


def whole_strip(generator: Generator, samples: Sequence[Tensor]) -> npt.NDArray[np.uint8]:
    """A film strip with one row per sample, from its first frame to its last."""
    columns = np.linspace(0, len(samples[0]) - 1, COLUMNS).round().astype(int)
    rows = [np.concatenate(list(render(generator, [sample[columns]]))) for sample in samples]
    return film_strip(rows, COLUMNS, [f"sample {number}" for number in range(len(rows))])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--store", required=True, help="latent store that the model was trained on")
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--seed", type=int, default=0, help="seeds the noise")
    parser.add_argument("--seconds", type=float, default=68.0, help="length of each of the samples")
    parser.add_argument("--samples", type=int, default=150, help="samples that are measured")
    parser.add_argument("--out", type=Path, default=Path("reports/drift.html"))
    options = parser.parse_args()

    model, store = load_model(options.model), open_store(options.store)
    generator, rate_hz = load_generator(weights_folders(options.weights)[0]), model.frame_rate_hz
    frames, basis = round(options.seconds * rate_hz), evaluation_basis(model.basis)
    clips = resampled_clips(store, named_snapshot(store, model.card["snapshot"]), rate_hz)
    real = footage_coefficients(model, basis, [w_plus[valid] for w_plus, valid in clips])
    generated = generate_coefficients(model, basis, options.samples, frames, options.seed)
    shown = [
        torch.cat(list(sample_latents(model, options.seed, frames, sample=number)))
        for number in range(SHOWN_SAMPLES)
    ]
    begins_s = [share * max(options.seconds - SHOWN_S, 0.0) for share in (0.0, 0.5, 1.0)]
    players = [
        player(
            np.concatenate([span(model, generator, sample, begin_s) for sample in shown], axis=1),
            rate_hz,
            f"from {begin_s:.0f} s on",
        )
        for begin_s in begins_s
    ]
    strip = whole_strip(generator, shown)
    document = page(
        f"Does the motion of {model.card['subject']} stay where it began?",
        paragraph(f"{options.samples} samples of {options.seconds:g} s, seed {options.seed}."),
        section("Away from the footage, second by second", as_html(drift(generated, rate_hz))),
        section("Distance from real motion", distances(real, generated, rate_hz)),
        section("The same samples later", side_by_side(*players)),
        section("From start to end", picture(strip, f"{options.seconds:g} s from left to right")),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_png(options.out.with_suffix(".png"), strip)
    write_page(options.out, document)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
