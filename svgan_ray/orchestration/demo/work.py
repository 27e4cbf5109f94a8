"""The demo's stages: each calls the function that the job of its name calls, and summarises the result."""

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
from svgan_ray.errors import InputError, VideoError
from svgan_ray.metrics.evaluation import MotionReport
from svgan_ray.metrics.panel import SCORES
from svgan_ray.metrics.rivals import GAUSSIAN, LINEAR
from svgan_ray.orchestration.demo.expectations import expectations, facts_of
from svgan_ray.orchestration.demo.page import PAGE, STRIP, Table, write_demo_page
from svgan_ray.orchestration.demo.plan import DemoPlan
from svgan_ray.orchestration.demo.stages import Stage
from svgan_ray.orchestration.evaluate.job import run as evaluate
from svgan_ray.orchestration.fit.job import run as fit
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.invert.report import InvertReport
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, plain_column, print_warning
from svgan_ray.orchestration.sample.job import run as sample
from svgan_ray.orchestration.train.job import run as train
from svgan_ray.orchestration.train.validation import OBJECTIVE, WORST, distance_of
from svgan_ray.orchestration.tune.job import run as tune_study
from svgan_ray.store import open_store
from svgan_ray.store.keys import content_id
from svgan_ray.video.landmarks import sidecar_path
from svgan_ray.video.reading import open_video

__all__ = ["stages_of", "summary_of"]

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
    expected_s: float = 0.0


def stages_of(plan: DemoPlan, stage_table: Callable[[], Table]) -> list[Stage]:
    """The stages in order; `stage_table` returns the ended ones when the page is written."""
    stages: list[Stage] = []
    before = ""
    for step in _steps(plan, stage_table):
        before = content_id({"before": before, "name": step.name, "settings": step.settings})
        outputs = tuple(step.outputs)
        stages.append(
            Stage(step.name, step.about, before, outputs, step.work, step.needs_ray, step.expected_s)
        )
    return stages


def _steps(plan: DemoPlan, stage_table: Callable[[], Table]) -> Iterator[Step]:
    yield from _footage_steps(plan)
    yield from _motion_steps(plan)
    page = [plan.folder / PAGE, plan.folder / STRIP]
    yield Step(
        "page",
        "what came of it, to look at",
        "",
        page,
        lambda: _page(plan, stage_table),
        needs_ray=False,
        expected_s=20,
    )


def _footage_steps(plan: DemoPlan) -> Iterator[Step]:
    """The steps from videos to latents; for a user's own videos, weights are fitted first."""
    store = Path(plan.train.store)
    frames: float = _frames_of(plan.videos[0])
    if plan.rendered_s:
        frames = sum(plan.rendered_s) * RENDERED_RATE_HZ
        lengths = ", ".join(f"{length_s:g}" for length_s in plan.rendered_s)
        about = f"render {len(plan.videos)} subjects, {lengths} s"
        files = [file for v in plan.videos for file in (v, sidecar_path(v), factors_path(v))]
        yield Step(
            "footage",
            about,
            plan.settings,
            files,
            lambda: _footage(plan),
            needs_ray=False,
            expected_s=0.01 * frames,
        )
    settings: list[object] = [flatten(plan.invert), plan.settings]
    outputs = [store / "commits", store / "chunks"]
    if plan.fit is not None:  # the weights, and so the inversion's id, exist only then
        yield from _fit_steps(plan, frames)
    else:
        settings.insert(1, plan.inversion_id)
        outputs = [place / plan.inversion_id for place in outputs]
    yield Step(
        "invert",
        "footage to latents",
        settings,
        outputs,
        lambda: _invert(plan),
        expected_s=15 + 0.02 * frames,
    )


def _fit_steps(plan: DemoPlan, frames: float) -> Iterator[Step]:
    assert plan.track is not None and plan.fit is not None
    settings = [flatten(plan.track), plan.settings]
    tracks = [Path(plan.train.store) / "tracks"]
    about = "find and follow the face"
    yield Step("track", about, settings, tracks, lambda: _track(plan), expected_s=15 + 0.03 * frames)
    fitted = [Path(plan.fit.out) / network for network in ("generator", "encoder")]
    about = f"a generator and an encoder of {plan.subject}, {plan.fit.minutes:g} minutes"
    expected_s = 30 + 60 * plan.fit.minutes
    yield Step("fit", about, flatten(plan.fit), fitted, lambda: _fit(plan), expected_s=expected_s)


def _motion_steps(plan: DemoPlan) -> Iterator[Step]:
    about = f"a temporal GAN on {plan.subject}, {plan.train.temporal.steps:,} steps"
    settings, model = flatten(plan.train), [Path(plan.train.model)]
    yield Step("train", about, settings, model, lambda: _train(plan), expected_s=240)
    if plan.tune is not None:
        about = f"{plan.tune.trials} short trials of other options"
        tuned = [Path(plan.tune.model), Path(plan.tune.out)]
        yield Step("tune", about, flatten(plan.tune), tuned, lambda: _tune(plan), expected_s=120)
    wanted = (*plan.samples, *plan.transfers)
    others = f", {len(plan.transfers)} of {plan.other}" if plan.transfers else ""
    about = f"{len(plan.samples)} videos of {plan.subject}{others}"
    every, videos = [flatten(s) for s in wanted], [Path(s.out) for s in wanted]
    yield Step(
        "sample", about, every, videos, lambda: _sample(plan), needs_ray=False, expected_s=5 * len(wanted)
    )
    about = "how the motion compares with the footage"
    report = [Path(plan.evaluate.out)]
    yield Step(
        "evaluate",
        about,
        flatten(plan.evaluate),
        report,
        lambda: _evaluate(plan),
        needs_ray=False,
        expected_s=20,
    )


def _frames_of(path: Path) -> int:
    """The frames of a video, to estimate the time of stages; tracking refuses files that are not videos."""
    try:
        with open_video(path) as video:
            return video.info.frame_count
    except VideoError:
        return 0


def _track(plan: DemoPlan) -> str:
    assert plan.track is not None
    _require_whole(plan, invert(plan.track))
    facts = facts_of(plan)
    for line in expectations(facts):
        print_warning(line)
    return f"{facts.duration_s:.0f} s of a face, {facts.face_px:.0f} pixels wide"


def _fit(plan: DemoPlan) -> str:
    assert plan.fit is not None
    done = fit(plan.fit).finished
    now, before = done.scores["image_db"], done.before["image_db"]
    return f"held-out frames at {now:.1f} dB (before {before:.1f}), {done.steps:,} steps"


def _footage(plan: DemoPlan) -> str:
    lengths_s = plan.rendered_s
    absent_s = [
        s for s, video in zip(lengths_s, plan.videos, strict=True) if not factors_path(video).exists()
    ]
    total = sum(round(length_s * RENDERED_RATE_HZ) for length_s in absent_s)
    began_s = time.monotonic()
    with _bar("rendering", total) as show:
        demo_footage(
            True, str(plan.folder / "footage"), len(lengths_s), lengths_s[0], lengths_s[-1], progress=show
        )
    rate = f", {total / (time.monotonic() - began_s):.0f} frames/s" if absent_s else ""
    return f"{len(lengths_s)} videos, {sum(lengths_s) / 60:.1f} minutes{rate}"


def _invert(plan: DemoPlan) -> str:
    report = invert(plan.invert)
    _require_whole(plan, report)
    commits = list(open_store(plan.train.store).commits(plan.inversion_id))
    frames = sum(record.frames for record in commits)
    errors = [record.mean_error for record in commits if record.mean_error]
    quality = f", reconstructed at {-20 * math.log10(sum(errors) / len(errors)):.1f} dB" if errors else ""
    return f"{frames:,} frames{quality}, {report.frames_per_s:.0f} frames/s"


def _require_whole(plan: DemoPlan, report: InvertReport) -> None:
    if report.failures:
        problems = "; ".join(f"{f.uri}: {f.message} ({f.reason})" for f in report.failures)
        raise InputError(f"{problems}. Mend or replace the video, and remove {plan.folder}")


def _train(plan: DemoPlan) -> str:
    finished = train(plan.train).finished
    distance = finished.figures.get(OBJECTIVE)
    return f"{finished.steps:,} steps, {_shown(distance)}"


def _tune(plan: DemoPlan) -> str:
    assert plan.tune is not None
    report = tune_study(plan.tune)
    return f"{len(report.trials)} trials, the best: {_shown(report.best.objective)}"


def _sample(plan: DemoPlan) -> str:
    reports = [sample(config) for config in (*plan.samples, *plan.transfers)]
    frames, duration_s = sum(r.plan.frames for r in reports), sum(r.duration_s for r in reports)
    return f"{len(reports)} videos of {plan.samples[0].seconds:g} s, {frames / duration_s:.0f} frames/s"


def _evaluate(plan: DemoPlan) -> str:
    return summary_of(evaluate(plan.evaluate).motion)


def summary_of(motion: MotionReport) -> str:
    """How near generated motion is to the footage, beside the simplest rivals that generate motion."""
    beside = [
        f"{said} {motion.rivals[name].motion_distance:.1f}"
        for name, said in {LINEAR: "a linear model", GAUSSIAN: "a Gaussian process"}.items()
        if name in motion.rivals
    ]
    rivals = f" ({', '.join(beside)}; smaller is better)" if beside else ""
    within = len(SCORES) - len(motion.standing.over)
    fit = f"{within} of {len(SCORES)} scores within their bars"
    if not motion.is_fit:
        fit = "measure not fit for this footage"
    return f"{_shown(distance_of(motion))}{rivals}, {fit}, diversity {motion.diversity:.2f}"


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
