"""Is a search worth its time? A study on the demo's first subject; its best trial against the recipe.

    python benchmarks/search.py --folder /tmp/search

The program renders a minute of training footage and several minutes of held-out behaviour of the subject,
inverts both and runs the study. Then it trains the best trial's options and the recipe with the same new
seeds, which the study did not use, and measures all models on the held-out footage. Each step is a job with a
normal command line; when the program is run again, every job goes on where it was stopped. The limit: the
study ends within 40 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from processor_time import metered

from svgan_ray.demo.behaviour import subject
from svgan_ray.demo.footage import factors_path, render_footage

JOBS = Path(__file__).parents[1] / "jobs"
SUBJECT, HELD_OUT = "subject-1", "held-out"
TRAINING_SEED, FIRST_HELD_OUT_SEED = 1, 1000  # the demo's own minute, and behaviour that it never sees
FIRST_SEED = 100
EXPERIMENT = "benchmark-search"
TIMES = "study.json"
KINDS = ("default", "best trial")


def footage(folder: Path, held_out_minutes: int) -> dict[str, list[Path]]:
    """Videos by subject; missing videos are rendered."""
    held_out = range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + held_out_minutes)
    seeds = {SUBJECT: [TRAINING_SEED], HELD_OUT: held_out}
    videos = {name: [folder / "footage" / name / f"{seed}.mp4" for seed in of] for name, of in seeds.items()}
    for path in (path for paths in videos.values() for path in paths):
        if not factors_path(path).exists():
            render_footage(path, subject(1), 60.0, seed=int(path.stem))
    return videos


def call(job: str, folder: Path, flags: dict[str, Any]) -> None:
    """Run a job to its end, in the folder, so that its runs stay there and no experiment.toml is read."""
    command = [sys.executable, str(JOBS / f"{job}.py")]
    for name, value in {**flags, "experiment": EXPERIMENT}.items():
        command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    print("$", " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True, cwd=folder)


def study(folder: Path, trials: int, trial_steps: int) -> str:
    """Run the study, or go on with it; returns a sentence about the time it took."""
    path = folder / TIMES
    sittings = json.loads(path.read_text()) if path.exists() else []
    if not (sittings and sittings[-1]["is_over"]):
        sittings.append({})

        def note(clock_s: float, processor_s: float, is_over: bool = False) -> None:
            sittings[-1] = {"clock_s": clock_s, "processor_s": processor_s, "is_over": is_over}
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(sittings))
            partial.replace(path)

        flags = {
            "store": folder / "store",
            "subject": SUBJECT,
            "model": folder / "models/study",
            "out": folder / "preset.json",
            "trials": trials,
            "temporal.steps": trial_steps,
        }
        with metered(note):
            call("tune", folder, flags)
        note(sittings[-1]["clock_s"], sittings[-1]["processor_s"], is_over=True)
    clock, processor = (sum(each[name] for each in sittings) / 60 for name in ("clock_s", "processor_s"))
    cut_off = f" in {len(sittings)} sittings" if len(sittings) > 1 else ""
    return f"study of {trials} trials: {clock:.1f} minutes{cut_off}, {processor:.1f} of processor time"


def scores_of(folder: Path, kind: str, seed: int, steps: int | None) -> dict[str, float]:
    """Train with a seed; returns the scores on the held-out footage."""
    name = f"{kind.replace(' ', '-')}-{seed}"
    report = folder / "reports" / f"{name}.json"
    if not report.exists():
        place = {"store": folder / "store", "model": folder / "models" / name}
        options = {"subject": SUBJECT, "temporal.seed": seed}
        options |= {"preset": folder / "preset.json"} if kind == "best trial" else {}
        options |= {} if steps is None else {"temporal.steps": steps}
        call("train", folder, {**place, **options})
        call("evaluate", folder, {**place, "subject": HELD_OUT, "out": report})
    scores = json.loads(report.read_text())["figures"]
    return {"distance": distance(scores), "diversity": scores["diversity"], "jitter": scores["jitter"]}


def distance(scores: dict[str, float | None]) -> float:
    """Fréchet motion as a multiple of the floor, averaged over positions and the windows where it is fit."""
    fit = [
        name.removesuffix("/is_fit") for name, is_so in scores.items() if name.endswith("/is_fit") and is_so
    ]
    of_generated = [
        value
        for name, value in scores.items()
        if any(name.startswith(f"{window}/generated") for window in fit) and value is not None
    ]
    return mean(of_generated) if of_generated else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--trials", type=int, default=24, help="trials of the study")
    parser.add_argument("--trial-steps", type=int, default=600, help="steps of a trial, as in the demo")
    parser.add_argument("--steps", type=int, help="steps of the trainings after it (default: the recipe's)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--held-out-minutes", type=int, default=5, help="footage that they are measured on")
    options = parser.parse_args()
    folder = options.folder.absolute()

    for name, videos in footage(folder, options.held_out_minutes).items():
        call("invert", folder, {"videos": videos, "store": folder / "store", "subject": name})
    took = study(folder, options.trials, options.trial_steps)
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    by_kind = {kind: [scores_of(folder, kind, seed, options.steps) for seed in seeds] for kind in KINDS}

    print(f"\n{took}\n")
    print("| options | distance, floors | by seed | diversity | jitter |\n|---|---|---|---|---|")
    for kind, rows in by_kind.items():
        shown = {name: [row[name] for row in rows] for name in rows[0]}
        spread = f" ± {stdev(shown['distance']):.2f}" if len(rows) > 1 else ""
        each = ", ".join(f"{value:.2f}" for value in shown["distance"])
        cells = f"{mean(shown['diversity']):.2f} | {mean(shown['jitter']):.2f}"
        print(f"| {kind} | {mean(shown['distance']):.2f}{spread} | {each} | {cells} |")


if __name__ == "__main__":
    main()
