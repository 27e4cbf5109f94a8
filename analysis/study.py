"""What did a study find? Its history, the options that mattered, its Pareto front, videos of its best trials.

    python analysis/study.py --database sqlite:///demo/optuna.db --study demo --trials demo/study/demo

If a study has two objectives (jobs/tune.py --pareto), the page shows their Pareto front. The videos use one
seed. They are rendered from the trials' last checkpoints, with the mean of the footage as the subject.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.visualization import matplotlib as plots

from svgan_ray.orchestration.train.validation import DRIFT, FIDELITY, FRECHET, OBJECTIVE
from svgan_ray.orchestration.tune.plan import objective_of
from svgan_ray.report.page import (
    Html,
    page,
    paragraph,
    png,
    section,
    side_by_side,
    write_page,
)
from svgan_ray.report.player import player
from svgan_ray.report.plots import as_png
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_generator, weights_folders
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.model import model_of
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents

FRONT, HISTORY, IMPORTANCE = "Pareto front", "History of", "What mattered for"
CAPTIONS = {
    FRONT: "no trial is better than a red one in both objectives",
    HISTORY: "each dot is a trial, in the order in which they were proposed",
    IMPORTANCE: "share of the differences between trials that an option explains",
}
SHOWN_TRIALS = 6
SHOWN_S = 4.0
SHOWN_SCORES = (OBJECTIVE, FRECHET, FIDELITY, DRIFT)


@dataclass(frozen=True)
class Kept:
    """A trial's last checkpoint and its scores."""

    name: str
    measured: dict[str, float]
    checkpoint: Path


def plot(draw: Any, *arguments: Any, **options: Any) -> Figure | None:
    """One of Optuna's plots; None if the study has too few trials for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that its plots are experimental
        try:
            axes = draw(*arguments, **options)
        except (ValueError, RuntimeError):
            return None
    drawn: Figure = np.ravel(axes)[0].figure
    return drawn


def plots_of(study: optuna.Study) -> dict[str, bytes]:
    """PNG by heading."""
    names = study.metric_names or [f"objective {n + 1}" for n in range(len(study.directions))]
    drawn: dict[str, Figure | None] = {}
    if len(names) > 1:
        drawn[FRONT] = plot(plots.plot_pareto_front, study, target_names=list(names))
    for number, name in enumerate(names):
        one = {"target": lambda trial, n=number: trial.values[n], "target_name": name}
        drawn[f"{HISTORY} {name}"] = plot(plots.plot_optimization_history, study, **one)
        drawn[f"{IMPORTANCE} {name}"] = plot(plots.plot_param_importances, study, **one)
    return {heading: as_png(figure) for heading, figure in drawn.items() if figure is not None}


def caption_of(heading: str) -> str:
    return next(caption for begin, caption in CAPTIONS.items() if heading.startswith(begin))


def kept_trials(folder: Path, objective: str) -> list[Kept]:
    """The trials that have a checkpoint, the best one by the study's objective first."""
    found = []
    for results in folder.glob("trial-*/result.json"):
        checkpoints = sorted(results.parent.glob("checkpoint_*"))
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        measured = [line for line in lines if not line.get("diverged", True)]
        if checkpoints and measured:
            figures = {name: measured[-1][name] for name in SHOWN_SCORES if name in measured[-1]}
            found.append(Kept(results.parent.name, figures, checkpoints[-1]))
    return sorted(found, key=lambda trial: trial.measured[objective])


def shown(trial: Kept, generator: Generator, seed: int) -> Html:
    state = load_checkpoint(trial.checkpoint)
    model = model_of(state, state.basis.mean.clone(), "")
    frames = round(SHOWN_S * model.frame_rate_hz)
    video = np.concatenate(list(render(generator, sample_latents(model, seed, frames))))
    figures = ", ".join(f"{name} {value:.2f}" for name, value in trial.measured.items())
    return player(video, model.frame_rate_hz, f"{trial.name}: {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", default="sqlite:///optuna.db", help="the study's --search-storage")
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--trials", type=Path, required=True, help="the study's folder in its --study-folder")
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--seed", type=int, default=0, help="seeds the noise of the videos")
    parser.add_argument("--out", type=Path, default=Path("reports/study.html"))
    options = parser.parse_args()

    storage = optuna.storages.RDBStorage(options.database)
    study = optuna.load_study(study_name=options.study, storage=storage)
    pictures = plots_of(study)
    generator = load_generator(weights_folders(options.weights)[0])
    best = kept_trials(options.trials, objective_of(study))[:SHOWN_TRIALS]
    states = [trial.state.name.lower() for trial in study.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    document = page(
        f"Study {options.study}",
        paragraph(f"{len(states)} trials: {counts}. Smaller objectives are better."),
        section("The best trials", side_by_side(*(shown(trial, generator, options.seed) for trial in best))),
        *(section(heading, png(data, caption_of(heading))) for heading, data in pictures.items()),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".png").write_bytes(next(iter(pictures.values())))
    write_page(options.out, document)
    storage.engine.dispose()
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
