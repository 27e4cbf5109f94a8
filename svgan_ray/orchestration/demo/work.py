"""The demo's stages: each calls the function that the job of its name calls, and sums up what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

from svgan_ray.config import flatten
from svgan_ray.demo.footage import factors_path
from svgan_ray.errors import InputError
from svgan_ray.orchestration.demo.page import PAGE, STRIP, Table, write_demo_page
from svgan_ray.orchestration.demo.plan import DemoPlan
from svgan_ray.orchestration.demo.stages import Stage
from svgan_ray.orchestration.evaluate.job import run as evaluate
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, plain_column
from svgan_ray.orchestration.sample.job import run as sample
from svgan_ray.orchestration.train.job import run as train
from svgan_ray.orchestration.train.validation import OBJECTIVE, WORST, distance_of
from svgan_ray.orchestration.tune.job import run as tune_study
from svgan_ray.store import open_store
from svgan_ray.store.keys import content_id
from svgan_ray.video.landmarks import sidecar_path

__all__ = ["stages_of"]

RENDERED_RATE_HZ = 25


@dataclass(frozen=True)
class Step:
    """A stage before its inputs are hashed: `settings` decide its result, and so do all stages before it."""

    name: str
    about: str
    settings: object
    outputs: Sequence[Path]
    work: Callable[[], str]
    needs_ray: bool = True


def stages_of(plan: DemoPlan, stage_table: Callable[[], Table]) -> list[Stage]:
    """The stages in order; `stage_table` is asked for those that have ended when the page is written."""
    stages: list[Stage] = []
    before = ""
    for step in _steps(plan, stage_table):
        before = content_id({"before": before, "name": step.name, "settings": step.settings})
        outputs = tuple(step.outputs)
        stages.append(Stage(step.name, step.about, before, outputs, step.work, step.needs_ray))
    return stages


def _steps(plan: DemoPlan, stage_table: Callable[[], Table]) -> Iterator[Step]:
    folder, store = plan.folder, Path(plan.train.store)
    if plan.rendered:
        about = f"render {len(plan.videos)} subjects, {plan.rendered.seconds:g} s each"
        files = [file for v in plan.videos for file in (v, sidecar_path(v), factors_path(v))]
        yield Step("footage", about, plan.settings, files, lambda: _footage(plan), needs_ray=False)
    inverted = [store / "commits" / plan.inversion_id, store / "chunks" / plan.inversion_id]
    settings = [flatten(plan.invert), plan.inversion_id, plan.settings]
    yield Step("invert", "footage to latents", settings, inverted, lambda: _invert(plan))
    about = f"a temporal GAN on {plan.subject}, {plan.train.temporal.steps:,} steps"
    yield Step("train", about, flatten(plan.train), [Path(plan.train.model)], lambda: _train(plan))
    about = f"{plan.tune.trials} short trials of other options"
    tuned = [Path(plan.tune.model), Path(plan.tune.out)]
    yield Step("tune", about, flatten(plan.tune), tuned, lambda: _tune(plan))
    wanted = (*plan.samples, *plan.transfers)
    about = f"{len(plan.samples)} videos of {plan.subject}, {len(plan.transfers)} of {plan.other}"
    settings, videos = [flatten(s) for s in wanted], [Path(s.out) for s in wanted]
    yield Step("sample", about, settings, videos, lambda: _sample(plan), needs_ray=False)
    about = "how the motion compares with the footage"
    report = [Path(plan.evaluate.out)]
    yield Step("evaluate", about, flatten(plan.evaluate), report, lambda: _evaluate(plan), needs_ray=False)
    page = [folder / PAGE, folder / STRIP]
    yield Step(
        "page", "what came of it, to look at", "", page, lambda: _page(plan, stage_table), needs_ray=False
    )


def _footage(plan: DemoPlan) -> str:
    assert plan.rendered is not None
    subjects, seconds = plan.rendered.subjects, plan.rendered.seconds
    absent = sum(not factors_path(video).exists() for video in plan.videos)
    total = absent * round(seconds * RENDERED_RATE_HZ)
    began_s = time.monotonic()
    with _bar("rendering", total) as show:
        demo_footage(True, str(plan.folder / "footage"), subjects, seconds, show)
    rate = f", {total / (time.monotonic() - began_s):.0f} frames/s" if absent else ""
    return f"{subjects} videos, {subjects * seconds / 60:.1f} minutes{rate}"


def _invert(plan: DemoPlan) -> str:
    report = invert(plan.invert)
    if report.failures:
        problems = "; ".join(f"{f.uri}: {f.message} ({f.reason})" for f in report.failures)
        raise InputError(f"{problems}. Mend or replace the video, and remove {plan.folder}")
    commits = list(open_store(plan.train.store).commits(plan.inversion_id))
    frames = sum(record.frames for record in commits)
    errors = [record.mean_error for record in commits if record.mean_error]
    quality = f", reconstructed at {-20 * math.log10(sum(errors) / len(errors)):.1f} dB" if errors else ""
    return f"{frames:,} frames{quality}, {report.frames_per_s:.0f} frames/s"


def _train(plan: DemoPlan) -> str:
    finished = train(plan.train).finished
    distance = finished.figures.get(OBJECTIVE)
    return f"{finished.steps:,} steps, {_shown(distance)}"


def _tune(plan: DemoPlan) -> str:
    report = tune_study(plan.tune)
    return f"{len(report.trials)} trials, the best: {_shown(report.best.objective)}"


def _sample(plan: DemoPlan) -> str:
    reports = [sample(config) for config in (*plan.samples, *plan.transfers)]
    frames, duration_s = sum(r.plan.frames for r in reports), sum(r.duration_s for r in reports)
    return f"{len(reports)} videos of {plan.samples[0].seconds:g} s, {frames / duration_s:.0f} frames/s"


def _evaluate(plan: DemoPlan) -> str:
    motion = evaluate(plan.evaluate).motion
    distance, verdicts = distance_of(motion), {part.verdict for part in motion.frechet}
    fit = "" if verdicts == {"fit"} else ", measure not fit for this footage"
    return f"{_shown(distance)}{fit}, diversity {motion.diversity:.2f}"


def _shown(distance: float | None) -> str:
    if distance is None or distance >= WORST:
        return "motion not measured"
    return f"motion distance {distance:.1f}"


def _page(plan: DemoPlan, stage_table: Callable[[], Table]) -> str:
    write_demo_page(plan, stage_table())
    return PAGE


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    frames_column = plain_column("frames")
    columns = (plain_column("{task.description}"), BarColumn(), MofNCompleteColumn(), frames_column)
    with LoggedProgress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task(name, total=total)

        def show(frames: int) -> None:
            bar.update(task, completed=frames)
            bar.log_line(f"{name}: {frames:,} of {total:,} frames")

        yield show
