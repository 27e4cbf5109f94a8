"""Which style layers and frequencies carry motion? Its power in both, for the footage and for samples.

    python analysis/where_motion_lives.py --model demo/models/subject-1 --store demo/store

Coarse styles turn the head and fine styles change colours. Slow motion is posture; fast motion is speech and
blinks.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from svgan_ray.metrics.features import BANDS_HZ, blocks_of, cut_windows, power_spectrum
from svgan_ray.orchestration.runtime.snapshots import named_snapshot
from svgan_ray.orchestration.train.data import resampled_clips
from svgan_ray.report.page import page, paragraph, png, section, table, write_page
from svgan_ray.report.plots import as_png
from svgan_ray.store import LatentStore, open_store
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.sampling import sample_latents

WINDOW_S = 4.0
SAMPLES = 3
BANDS = (0.0, *BANDS_HZ)


def power_by_layer_and_band(clips: list[Tensor], rate_hz: float) -> Tensor:
    """Shares [n, B] of the power of W+ clips [T, n, d], by style layer and frequency band; their sum is 1."""
    frames = min(round(WINDOW_S * rate_hz), max(map(len, clips)))
    num_ws = clips[0].shape[1]
    windows = cut_windows(blocks_of([clip.flatten(1) for clip in clips], frames), frames).data
    power, frequency_hz = power_spectrum(windows, rate_hz)
    layers = power.sum(0).unflatten(1, (num_ws, -1)).sum(2)  # [F, n]
    bands = [layers[(frequency_hz >= low) & (frequency_hz < high)].sum(0) for low, high in pairwise(BANDS)]
    total = torch.stack(bands, 1)  # [n, B]
    return total / total.sum()


def band_names() -> list[str]:
    return [f"{low:g} to {high:g} Hz" if high < 1e9 else f"above {low:g} Hz" for low, high in pairwise(BANDS)]


def footage(model: MotionModel, store: LatentStore) -> list[Tensor]:
    snapshot = named_snapshot(store, model.card["snapshot"])
    return [w_plus[valid] for w_plus, valid in resampled_clips(store, snapshot, model.frame_rate_hz)]


def samples(model: MotionModel, seed: int, seconds: float) -> list[Tensor]:
    frames = round(seconds * model.frame_rate_hz)
    return [torch.cat(list(sample_latents(model, seed, frames, sample=n))) for n in range(SAMPLES)]


def figure(shares: dict[str, Tensor]) -> bytes:
    """A PNG of two maps with one colour scale; layers go downwards, frequencies to the right."""
    drawn = Figure(figsize=(5 * len(shares), 5), layout="constrained")
    highest = max(float(share.max()) for share in shares.values())
    for axes, (name, share) in zip(drawn.subplots(1, len(shares)), shares.items(), strict=True):
        image = axes.imshow(share.numpy(), aspect="auto", vmin=0, vmax=highest, cmap="viridis")
        axes.set_title(name)
        axes.set_ylabel("style layer")
        axes.set_xticks(range(share.shape[1]), band_names(), rotation=30, ha="right")
    drawn.colorbar(image, ax=drawn.axes, label="share of the power")
    return as_png(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--store", required=True, help="latent store that the model was trained on")
    parser.add_argument("--seed", type=int, default=0, help="seeds the noise")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the samples")
    parser.add_argument("--out", type=Path, default=Path("reports/where_motion_lives.html"))
    options = parser.parse_args()

    model, store = load_model(options.model), open_store(options.store)
    sides = {"footage": footage(model, store), "samples": samples(model, options.seed, options.seconds)}
    shares = {name: power_by_layer_and_band(clips, model.frame_rate_hz) for name, clips in sides.items()}
    drawn = figure(shares)
    rows = [
        [str(layer), *(f"{share[layer].sum():.1%}" for share in shares.values())]
        for layer in range(model.basis.num_ws)
    ]
    document = page(
        f"Where the motion of {model.card['subject']} lives",
        paragraph("Shares of the power of W+ about its mean over windows of four seconds."),
        section("By layer and frequency", png(drawn, "bright: much motion")),
        section("By layer", table(["style layer", *shares], rows)),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".png").write_bytes(drawn)
    write_page(options.out, document)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
