"""Real against generated motion on one page: film strips, the first components over time, power spectra.

    python analysis/real_and_generated.py --model demo/models/subject-1 --store demo/store --out page.html

The page contains everything that it shows; the strips are also written beside it as a picture. A component is
a direction of the subject's own basis, in units of its standard deviation in the footage, so real motion has
variance 1 in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svgan_ray.metrics.evaluation import footage_coefficients
from svgan_ray.orchestration.runtime.footage import aligned_footage, longest_clip
from svgan_ray.orchestration.runtime.snapshots import named_snapshot
from svgan_ray.orchestration.train.data import resampled_clips
from svgan_ray.report.page import (
    Html,
    page,
    paragraph,
    picture,
    section,
    table,
    write_page,
)
from svgan_ray.report.plots import as_html, power_spectra, trajectories
from svgan_ray.store import LatentStore, open_store
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_generator, weights_folders
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents
from svgan_ray.video.pictures import film_strip, save_png

COMPONENTS = 4
SHOWN_S = 10.0
STRIP_COLUMNS, STRIP_EVERY_S = 10, 0.4
SAMPLES = 3


def real_coefficients(model: MotionModel, store: LatentStore) -> list[Tensor]:
    """The footage that the model was trained on, as valid spans [T, K] in the model's basis."""
    snapshot = named_snapshot(store, model.card["snapshot"])
    clips = resampled_clips(store, snapshot, model.frame_rate_hz)
    return footage_coefficients(model, model.basis, [w_plus[valid] for w_plus, valid in clips])


def generated_latents(model: MotionModel, seed: int, seconds: float) -> list[Tensor]:
    """W+ [T, n, d] of a few samples."""
    frames = round(seconds * model.frame_rate_hz)
    return [torch.cat(list(sample_latents(model, seed, frames, sample=n))) for n in range(SAMPLES)]


def film_strips(
    model: MotionModel, store: LatentStore, generator: Generator, generated: list[Tensor]
) -> npt.NDArray[np.uint8]:
    """A picture [H, W, 3] with rows for the footage, its reconstruction and the samples."""
    clip = longest_clip(store, model.card["inversion_id"], model.card["subject"])
    frames = strip_frames(clip.frame_rate_hz)
    footage = np.concatenate(list(aligned_footage(store, clip, frames, generator.config.resolution)))
    inverted = store.read_clip(clip.inversion_id, clip.clip_id).w_plus[:frames]
    samples = [w_plus[: strip_frames(model.frame_rate_hz)] for w_plus in generated]
    drawn = [np.concatenate(list(render(generator, [w_plus]))) for w_plus in (inverted, *samples)]
    labels = ["footage", "its latents", *(f"generated {n}" for n in range(len(samples)))]
    return film_strip([footage, *drawn], STRIP_COLUMNS, labels)


def strip_frames(rate_hz: float) -> int:
    """The number of frames from the first column to the last."""
    return round((STRIP_COLUMNS - 1) * STRIP_EVERY_S * rate_hz) + 1


def spread(real: list[Tensor], generated: list[Tensor]) -> Html:
    """Mean and standard deviation of each component."""
    both = [torch.cat(clips) for clips in (real, generated)]
    rows = [
        [str(k + 1), *(f"{moment(c[:, k]):.2f}" for c in both for moment in (torch.mean, torch.std))]
        for k in range(COMPONENTS)
    ]
    return table(["component", "real mean", "real std", "generated mean", "generated std"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--store", required=True, help="latent store that the model was trained on")
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--seed", type=int, default=0, help="seeds the noise")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the samples")
    parser.add_argument("--out", type=Path, default=Path("reports/real_and_generated.html"))
    options = parser.parse_args()

    model, store = load_model(options.model), open_store(options.store)
    generator = load_generator(weights_folders(options.weights)[0])
    real = real_coefficients(model, store)
    latents = generated_latents(model, options.seed, options.seconds)
    generated = [model.basis.project(w_plus) for w_plus in latents]

    rate_hz = model.frame_rate_hz
    shown = round(SHOWN_S * rate_hz)
    strip = film_strips(model, store, generator, latents)
    document = page(
        f"Real and generated motion of {model.card['subject']}",
        paragraph(
            f"`{options.model}` against the footage that it was trained on, {model.card['footage_s']} s; "
            f"{len(generated)} samples of {options.seconds:g} s, seed {options.seed}."
        ),
        section("Frames", picture(strip, f"columns are {STRIP_EVERY_S:g} s apart")),
        section(
            "Components over time", as_html(trajectories(real[0][:shown], generated[0][:shown], rate_hz))
        ),
        section("Power spectra", as_html(power_spectra(real, generated, rate_hz))),
        section("Spread", spread(real, generated)),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_png(options.out.with_suffix(".png"), strip)
    write_page(options.out, document)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
