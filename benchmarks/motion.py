"""The scores of motion for truth, rivals, controls and models, on the demo's first subject.

Ten minutes of footage represent the person. They are compared with new clips of the same person, held-out
footage, the rivals, truth that is spoilt by each control, and models that `benchmarks/quality.py train` made
in WORK. All of these, except the held-out footage, are as long as the footage. A cell is marked with * if a
score misses its bar. For true latents, 12 draws of truth set the bar; for inverted latents, the footage
itself does.

    python benchmarks/motion.py --work WORK --latents true --models demo-true-0 demo-true-1
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from demo_subject import FRAME_RATE_HZ, motion_of_subject, same_person_anew
from judge_cnn import second_opinion
from torch import Tensor

from svgan_ray.demo.factors import MOVING
from svgan_ray.latents.basis import fit_basis
from svgan_ray.latents.denoising import denoised
from svgan_ray.metrics.controls import CONTROLS, spoilt
from svgan_ray.metrics.distance import Standing, Yardstick, mean_floors
from svgan_ray.metrics.evaluation import frechet_of_all, generate_coefficients
from svgan_ray.metrics.judge import NOISES
from svgan_ray.metrics.panel import SCORES, truth_bars
from svgan_ray.metrics.rivals import RIVALS
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.model import model_of

CLIPS, CLIP_S = 10, 66.0
DRAWS = 12
COMPONENTS = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for latents and models")
    parser.add_argument("--latents", choices=("inverted", "true"), default="inverted")
    parser.add_argument("--models", nargs="*", default=[], help="names of runs of quality.py in WORK")
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--cnn", action="store_true", help="ask a small network too, which takes its time")
    options = parser.parse_args()
    torch.set_num_threads(1)

    training, held_out, _ = motion_of_subject(options.work, options.latents)
    basis = fit_basis(training, len(MOVING) if options.latents == "true" else COMPONENTS)
    real, unseen = ([basis.project(clip) for clip in clips] for clips in (training, held_out))
    if options.latents == "inverted":  # as models learn it
        real, unseen = denoised(real, FRAME_RATE_HZ), denoised(unseen, FRAME_RATE_HZ)
    yardstick = Yardstick(real, FRAME_RATE_HZ)
    anew = [basis.project(clip) for clip in same_person_anew(DRAWS * CLIPS, CLIP_S)]
    draws = [anew[first : first + CLIPS] for first in range(0, len(anew), CLIPS)]
    shown = [yardstick.panel.scores(draw) for draw in draws]
    bars = truth_bars(shown) if options.latents == "true" else yardstick.bars
    print(
        "| of | " + " | ".join(SCORES) + " | floors | judge, noise 0, 0.1, 0.3 | network | motion distance |"
    )
    print("|" + "---|" * (len(SCORES) + 5))
    for name, values in (
        ("most of 12 draws of truth", [max(draw[score] for draw in shown) for score in SCORES]),
        ("bars of truth", [truth_bars(shown)[score] for score in SCORES]),
        ("bars of the footage", [yardstick.bars[score] for score in SCORES]),
    ):
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " | | | | |", flush=True)

    def others() -> Iterator[tuple[str, Sequence[Tensor]]]:
        yield "truth anew", draws[0]
        yield "held-out footage", unseen
        for name, rival in RIVALS.items():
            yield name, list(rival(real, CLIPS, round(CLIP_S * FRAME_RATE_HZ), FRAME_RATE_HZ, 0))
        for name in options.models:
            state = load_checkpoint(options.work / "checkpoints" / name)
            model = model_of(state, basis.mean, "0" * 64)
            frames = round(CLIP_S * FRAME_RATE_HZ)
            yield f"`{name}`", list(generate_coefficients(model, basis, CLIPS, frames, seed=1))
        for name in () if options.no_controls else CONTROLS:
            yield f"control: {name}", spoilt(draws[1], name, FRAME_RATE_HZ)

    for name, motion in others():
        floors = _floors(real, motion)
        standing = yardstick.measure(motion, floors)
        seen = second_opinion(real, motion, FRAME_RATE_HZ, 0.1) if options.cnn else math.nan
        print(_row(name, standing, bars, seen), flush=True)


def _floors(real: Sequence[Tensor], motion: Sequence[Tensor]) -> float:
    frames = min(map(len, motion))
    together = torch.stack([clip[:frames] for clip in motion])
    return mean_floors(frechet_of_all(real, (), together, FRAME_RATE_HZ))


def _row(name: str, standing: Standing, bars: dict[str, float], network: float) -> str:
    cells = [f"{standing.scores[n]:.2f}{'*' if standing.scores[n] > bars[n] else ''}" for n in SCORES]
    judged = ", ".join(f"{one.auc:.2f}" for one in standing.judgements)
    assert len(standing.judgements) == len(NOISES)
    second = "" if math.isnan(network) else f"{network:.2f}"
    cells += [f"{standing.floors:.2f}", judged, second, f"{standing.motion_distance:.2f}"]
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
