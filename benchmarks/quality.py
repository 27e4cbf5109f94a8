"""How well and how fast recipes learn one subject of the demo world, whose true motion is known.

There are ten minutes of training footage and five held-out minutes. Every recipe is trained in one thread,
and its CPU time is counted without measuring and saving. It is measured several times during training.
Results are appended to WORK/curves.jsonl, and a stopped run goes on from its last measurement.

    python benchmarks/quality.py protocol --work WORK
    python benchmarks/quality.py train --recipe demo --seed 0 --cpu-minutes 15 --work WORK
    python benchmarks/quality.py train --recipe paper --cpu-minutes 180 --every-minutes 6 --work WORK
    python benchmarks/quality.py table --work WORK
    python benchmarks/quality.py read --name demo-true-0 --work WORK
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from demo_reading import factor_statistics, read_factors
from demo_subject import FRAME_RATE_HZ, motion_of_subject, other_subject, same_person_anew, true_factors
from torch import Tensor

from svgan_ray.demo.embedding import factors_of_w
from svgan_ray.demo.factors import MOVING
from svgan_ray.latents.basis import LatentBasis, fit_basis
from svgan_ray.latents.denoising import denoised
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.metrics.evaluation import footage_coefficients, generate_coefficients, score_motion
from svgan_ray.metrics.features import evaluation_basis
from svgan_ray.metrics.scores import fast_power_share, memorisation
from svgan_ray.temporal.checkpoints import RECORD, load_checkpoint, save_checkpoint
from svgan_ray.temporal.model import model_of
from svgan_ray.temporal.recipes import RECIPES, TemporalConfig
from svgan_ray.temporal.sampling import generate, transfer
from svgan_ray.temporal.training import TrainingState, check_finite, new_state, represent, train_step

SAMPLES, SAMPLE_S = 150, 66.0
BAR_FLOORS = 2.0
MOST_COMPONENTS = 256
POSITIONS = ("0", "10", "60")
WINDOWS = ("2s", "5s")


@dataclass(frozen=True)
class Footage:
    """W+ clips [T, n, d] of a subject, and the true W+ of the same frames."""

    training: list[Tensor]
    held_out: list[Tensor]
    true: list[Tensor]
    rank: int

    def evaluation(self) -> LatentBasis:
        """A basis of 16 components; true latents have only one component for each moving factor."""
        return evaluation_basis(self.basis(16))

    def basis(self, size: int) -> LatentBasis:
        """A basis of the training clips with up to `size` components, as many as the clips have."""
        return fit_basis(self.training, min(size, self.rank))


def scores_of(state: TrainingState, footage: Footage, samples: int = SAMPLES) -> dict[str, float]:
    """All scores in latent space; jitter is also compared with that of the true factors."""
    basis = footage.evaluation()
    model = model_of(state, basis.mean, "0" * 64)
    frames = round(SAMPLE_S * FRAME_RATE_HZ)
    generated = generate_coefficients(model, basis, samples, frames, seed=1)
    training, held_out = (
        footage_coefficients(model, basis, clips) for clips in (footage.training, footage.held_out)
    )
    true = [basis.project(clip) for clip in footage.true]
    variances = basis.sigma.square()
    report = score_motion(training, generated, FRAME_RATE_HZ, variances, held_out)
    fast, fast_true = (fast_power_share(x, FRAME_RATE_HZ, variances) for x in (list(generated), true))
    return report.scores() | {"jitter_against_truth": fast / fast_true}


def distance_of(scores: dict[str, float]) -> float:
    """The largest Frechet distance over all positions, as a multiple of the floor."""
    return max(scores[f"frechet_motion_{w}/generated_at_{at}_s"] for w in WINDOWS for at in POSITIONS)


def changed(config: TemporalConfig, changes: Iterable[str]) -> TemporalConfig:
    """The config with changes `field=value` or `part.field=value`; values are Python literals."""
    for change in changes:
        path, _, text = change.partition("=")
        *parts, name = path.split(".")
        value = ast.literal_eval(text)
        owner = reduce(getattr, parts, config)
        part = dataclasses.replace(owner, **{name: value})  # type: ignore[type-var]
        config = dataclasses.replace(config, **{parts[0]: part}) if parts else part  # type: ignore[assignment]
    return config


def train(options: argparse.Namespace) -> None:
    """Train until the recipe's steps or the CPU minutes are used up, and measure at regular intervals."""
    # Encoded latents vary in every direction because of noise; true latents are linear in the factors.
    rank = len(MOVING) if options.latents == "true" else MOST_COMPONENTS
    footage = Footage(*motion_of_subject(options.work, options.latents), rank)
    config = changed(RECIPES[options.recipe](), options.change)
    config = dataclasses.replace(config, seed=options.seed, basis_size=min(config.basis_size, rank))
    name = options.name or f"{options.recipe}-{options.latents}-{options.seed}"
    folder, curves = options.work / "checkpoints" / name, options.work / "curves.jsonl"
    basis = footage.basis(config.basis_size if config.latent_space == "basis" else 1)
    clips = [represent(config, basis, clip) for clip in footage.training]
    features = torch.cat(denoised(clips, config.frame_rate_hz) if config.denoise else clips)
    index = WindowIndex(list(_spans(footage.training)), config.window_frames)
    before = [line for line in read_curves(options.work) if line["name"] == name]
    resumes = bool(before) and (folder / RECORD).exists()
    state = load_checkpoint(folder, config=config) if resumes else new_state(config, basis)
    cpu_s = next((line["cpu_s"] for line in reversed(before) if line["step"] == state.step), 0.0)
    while cpu_s < options.cpu_minutes * 60 and state.step < config.steps:
        began_s, due_s = time.process_time(), options.every_minutes * 60
        while (spent_s := time.process_time() - began_s) < due_s and state.step < config.steps:
            losses = train_step(state, features, index)
        cpu_s += spent_s
        check_finite(losses, state.step)
        scores = scores_of(state, footage)
        save_checkpoint(state, folder)
        line = {"name": name, "recipe": options.recipe, "changes": options.change, "seed": options.seed}
        line |= {"latents": options.latents, "step": state.step, "cpu_s": cpu_s, "figures": scores}
        with curves.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{name}: {cpu_s / 60:.1f} min, step {state.step}, {_summary(scores)}", flush=True)


def _summary(scores: dict[str, float]) -> str:
    at = " | ".join(
        " ".join(f"{scores[f'frechet_motion_{w}/generated_at_{at}_s']:.2f}" for at in POSITIONS)
        for w in WINDOWS
    )
    return (
        f"frechet {at}, diversity {scores['diversity']:.2f}, jitter {scores['jitter']:.2f}, "
        f"against truth {scores['jitter_against_truth']:.2f}, "
        f"copied {_copied(scores)}"
    )


def _copied(scores: dict[str, float]) -> str:
    share, ratios, distances = (
        scores[f"memorisation/{name}"] for name in ("copied_share", "copied_p_value", "p_value")
    )
    return f"{share:.3f} ({ratios:.2f}, {distances:.1g})"


def _spans(clips: list[Tensor]) -> Iterator[tuple[int, int]]:
    first = 0
    for clip in clips:
        yield first, first + len(clip)
        first += len(clip)


def read_curves(work: Path) -> list[dict[str, Any]]:
    """All measurements so far."""
    path = work / "curves.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(options: argparse.Namespace) -> None:
    """The last measurement of each run, and when it first met the bar."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for line in read_curves(options.work):
        runs.setdefault(line["name"], []).append(line)
    print(
        "| run | CPU min | steps | 2 s windows at 0, 10, 60 s | 5 s windows | diversity | jitter "
        "| copied share (p) | bar met |"
    )
    print("|" + "---|" * 9)
    for name, lines in runs.items():
        last, scores = lines[-1], lines[-1]["figures"]
        cells = [
            ", ".join(f"{scores[f'frechet_motion_{w}/generated_at_{at}_s']:.2f}" for at in POSITIONS)
            for w in WINDOWS
        ]
        met = next((x["cpu_s"] / 60 for x in lines if distance_of(x["figures"]) <= BAR_FLOORS), None)
        when = "no" if met is None else f"{met:.1f} min"
        print(
            f"| {name} | {last['cpu_s'] / 60:.1f} | {last['step']:,} | {cells[0]} | {cells[1]} | "
            f"{scores['diversity']:.2f} | {scores['jitter_against_truth']:.2f} | "
            f"{_copied(scores)} | {when} |"
        )


def protocol(options: argparse.Namespace) -> None:
    """Print the measures for motion of known quality: controls, new clips of the same person, a replay."""
    footage = Footage(*motion_of_subject(options.work, "true"), len(MOVING))
    basis = footage.evaluation()
    training, held_out = ([basis.project(c) for c in clips] for clips in (footage.training, footage.held_out))
    anew = torch.stack([basis.project(clip) for clip in same_person_anew(60, SAMPLE_S)])
    report = score_motion(training, anew, FRAME_RATE_HZ, basis.sigma.square(), held_out)
    print("| windows | windows a side | features | floor (spread) | of | floors |\n|" + "---|" * 6)
    for motion in report.frechet:
        start = f"| {motion.window_s:g} s | {motion.windows} | {motion.features} "
        start += f"| {motion.floor:.2f} ({motion.floor_spread:.2f}) |"
        for of, floors in {**motion.controls, **motion.compared}.items():
            print(f"{start} {of.replace('generated', 'the same person anew')} | {floors:.2f} |")
    frames = round(2 * FRAME_RATE_HZ)
    anew_windows = anew.unfold(1, frames, frames).flatten(0, 1).transpose(1, 2)
    replay = torch.stack(training).unfold(1, frames, 10).flatten(0, 1).transpose(1, 2)
    noise = 0.05 * torch.randn(replay.shape, generator=torch.Generator().manual_seed(0))
    found = {
        "the same person anew": report.memorisation,
        "that at nine tenths of the amplitude": memorisation(training, held_out, 0.9 * anew_windows),
        "a replay with noise": memorisation(training, held_out, replay + noise),
        "a replay of a tenth": memorisation(
            training, held_out, torch.cat([anew_windows, replay[:: len(replay) // (len(anew_windows) // 9)]])
        ),
    }
    print(f"\ndiversity {report.diversity:.2f}, jitter {report.jitter:.2f} of the same person anew")
    for of, result in found.items():
        if result is not None:
            print(
                f"memorisation, {of}: p {result.p_value:.2g}, copied p {result.copied_p_value:.2g}, "
                f"copied share {result.copied_share:.3f}, "
                f"{result.generated_windows:,} windows: {result.verdict}"
            )


def read(options: argparse.Namespace) -> None:
    """Render samples of a run, for its subject and for another one, and read their factors from the pictures.

    Rare events need more footage than can be rendered, so factors of 20 minutes of W+ are printed as well.
    """
    lines = [line for line in read_curves(options.work) if line["name"] == options.name]
    state = load_checkpoint(options.work / "checkpoints" / options.name)
    latents = lines[-1]["latents"]
    training, _, _ = motion_of_subject(options.work, latents)
    model = model_of(state, torch.cat(training).mean(0), "0" * 64)
    count = math.ceil(options.seconds / 30)
    moved = list(torch.cat(list(generate(model, count, round(30 * FRAME_RATE_HZ), seed=1)), 1))
    moved = [model.decode(sample) for sample in moved]
    long = torch.cat(list(generate(model, 20, round(60 * FRAME_RATE_HZ), seed=1)), 1)
    others = other_subject(options.work, latents)
    away = transfer(moved[0], model.w_ref, others.mean(0))
    columns = {
        "true factors": factor_statistics(true_factors()),
        "generated, from W+": factor_statistics(
            [factors_of_w(model.decode(sample).mean(1)) for sample in long]
        ),
        "footage, read": factor_statistics([read_factors(clip) for clip in training[: math.ceil(count / 2)]]),
        "generated, read": factor_statistics([read_factors(clip) for clip in moved]),
    }
    print(f"| {options.name} | " + " | ".join(columns) + " | from W+ over truth | read over truth |")
    print("|" + "---|" * 7)
    for name in columns["true factors"].named():
        values = [seen.named()[name] for seen in columns.values()]
        true, from_w_plus, footage, generated = values
        exact = f"{from_w_plus / true:.2f}" if true > 0 else ""
        base = footage if name == "identity, noise" else true
        cells = " | ".join(f"{v:.3f}" for v in values)
        print(f"| {name} | {cells} | {exact} | {generated / base:.2f} |")
    noise = factor_statistics([read_factors(others)]).identity_noise
    moving = factor_statistics([read_factors(away)]).identity_noise
    print(f"| identity of another subject, noise | | | {noise:.3f} | {moving:.3f} | | {moving / noise:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="train one recipe and measure it along the way")
    one.add_argument("--recipe", choices=tuple(RECIPES), default="demo")
    one.add_argument("--change", nargs="*", default=[], help="options, as critic.lags=(1,4)")
    one.add_argument("--name", help="of the run; by default recipe, latents and seed")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--latents", choices=("inverted", "true"), default="inverted")
    one.add_argument("--cpu-minutes", type=float, default=15.0)
    one.add_argument("--every-minutes", type=float, default=1.0, help="CPU time between measurements")
    one.set_defaults(run=train)
    three = commands.add_parser("read", help="let the factor reader look at what a run generates")
    three.add_argument("--name", required=True)
    three.add_argument("--seconds", type=float, default=300.0, help="of generated footage")
    three.set_defaults(run=read)
    four = commands.add_parser("protocol", help="controls, the same person anew, a replay")
    four.set_defaults(run=protocol)
    two = commands.add_parser("table", help="what was measured so far")
    two.set_defaults(run=table)
    for command in (one, two, three, four):
        command.add_argument("--work", type=Path, required=True, help="folder for latents, curves, weights")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
