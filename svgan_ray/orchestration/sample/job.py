"""Videos from a trained model: noise -> latents -> pictures -> H.264, streamed, so of any length."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from svgan_ray.config import SampleConfig, flatten
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.settings import log_settings
from svgan_ray.orchestration.runtime.snapshots import links_of
from svgan_ray.orchestration.runtime.terminal import shown_progress
from svgan_ray.orchestration.sample.many import VideoFolder, make_missing
from svgan_ray.orchestration.sample.paste import pasted_frames
from svgan_ray.orchestration.sample.plan import Motion, SamplePlan, motion_of, plan_sample
from svgan_ray.runs import open_run
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.generator import Generator
from svgan_ray.temporal.rendering import render
from svgan_ray.video.pictures import contact_sheet, film_strip
from svgan_ray.video.writing import SYNTHETIC_TAGS, VideoWriter

__all__ = ["SampleReport", "plan", "run"]

STRIP_COLUMNS = 10
GRID_SIDE = 2048
"""A grid's samples are scaled down, if needed, so that the grid is about this wide."""


@dataclass(frozen=True)
class SampleReport:
    """The videos that were made; `frames` were made in this run, the others existed already."""

    plan: SamplePlan
    frames: int
    duration_s: float

    exit_code = 0

    def __rich__(self) -> Table:
        table = self.plan.__rich__()
        if self.frames == 0:
            table.add_row("nothing to do", "all videos are there")
        else:
            speed = f"{self.frames / self.duration_s:.1f} frames/s"
            table.add_row("took", f"{self.duration_s:.1f} s, {self.frames:,} frames, {speed}")
        return table


def plan(config: SampleConfig) -> SamplePlan:
    """The plan of `run`: it loads the model and checks that everything fits together, but makes nothing."""
    return plan_sample(config)


def run(config: SampleConfig) -> SampleReport:
    """Make the videos that `config` describes; in a folder, only the missing ones.

    Raises WeightsError, ConfigError, DataError, LandmarksError, MachineError, and StoreError if the folder
    refuses files.
    """
    began_s = time.monotonic()
    plan = plan_sample(config)
    generator = plan.load_generator()
    motion = motion_of(plan, generator)
    strip, frames = None, plan.frames * (config.samples if config.grid else 1)
    if plan.makes_a_folder:
        frames = plan.frames * make_missing(VideoFolder(plan), motion, generator)
    else:
        try:
            strip = _write_video(plan, motion, generator)
        except OSError as error:
            raise ConfigError(f"--out {plan.out}: cannot be written: {error.strerror}") from error
    report = SampleReport(plan, frames, time.monotonic() - began_s)
    _log(report, strip)
    return report


def _write_video(plan: SamplePlan, motion: Motion, generator: Generator) -> npt.NDArray[np.uint8]:
    """Render into the file; returns a film strip of it."""
    frames, rate_hz, count = _frames(plan, motion, generator), motion.model.frame_rate_hz, plan.frames
    if plan.paste is not None:
        frames, rate_hz = pasted_frames(plan.paste, frames), plan.paste.frame_rate_hz
        count = len(plan.paste.numbers)
    wanted = set(np.linspace(0, count - 1, STRIP_COLUMNS).round().astype(int).tolist())
    shown = []
    first = next(frames)
    height, width = first.shape[:2]
    tags = {**SYNTHETIC_TAGS, "title": f"svgan-ray sample, seed {plan.config.seed}"}
    with VideoWriter(plan.out, width, height, rate_hz, tags) as video:
        for number, frame in enumerate(shown_progress(_after(first, frames), "sampling", count)):
            video.write(frame[None])
            shown += [frame] if number in wanted else []
    return film_strip([np.stack(shown)], len(shown))


def _after(
    first: npt.NDArray[np.uint8], rest: Iterator[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.uint8]]:
    yield first
    yield from rest


def _frames(plan: SamplePlan, motion: Motion, generator: Generator) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames [H, W, 3] one by one: all samples of a frame side by side."""
    config = plan.config
    columns = math.ceil(math.sqrt(config.samples))
    side = min(generator.config.resolution, 2 * (GRID_SIDE // columns // 2))
    for chunk in motion.latents(range(config.samples), config.batch_frames):
        rows = [
            np.concatenate(list(render(generator, [w_plus], side, config.batch_frames))) for w_plus in chunk
        ]
        for pictures in zip(*rows, strict=True):
            yield contact_sheet(np.stack(pictures), columns)


def _log(report: SampleReport, strip: npt.NDArray[np.uint8] | None) -> None:
    plan, card = report.plan, report.plan.model.card
    settings = {name: str(value) for name, value in flatten(plan.config).items()}
    if plan.paste is None:
        del settings["paste_into"]  # the run's identity is then that of earlier versions
    identity = f"sample-{content_id({**settings, 'model': plan.model_sha256})}"
    name = f"sample {Path(plan.out).stem}"
    with open_run(plan.config.experiment, name, "sample", identity) as run:
        log_settings(run, plan.config)
        run.set_tags({"model_sha256": plan.model_sha256})
        run.link(links_of(card))
        if "snapshot_digest" in card:
            run.log_input(card["snapshot"], card["snapshot_digest"], plan.config.model, "training")
        run.log_metrics({"frames_per_s": report.frames / report.duration_s}, 0)
        if strip is not None:
            run.log_image(strip, "sample", 0)
            run.log_artifact(Path(plan.out), "samples")
