"""What a person looks at in the end: footage, its reconstruction, generated videos, and the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from svgan_ray.orchestration.demo.expectations import expectations, facts_of
from svgan_ray.orchestration.demo.plan import SAMPLE_SECONDS, DemoPlan
from svgan_ray.orchestration.runtime.footage import aligned_footage, longest_clip
from svgan_ray.report.page import (
    Html,
    bullets,
    page,
    paragraph,
    picture,
    png,
    section,
    side_by_side,
    table,
    video,
    write_page,
)
from svgan_ray.store import CommitRecord, LatentStore, open_store
from svgan_ray.stylegan.weights import RECORD, load_generator, weights_folders
from svgan_ray.temporal.rendering import render
from svgan_ray.video.pictures import film_strip, save_png
from svgan_ray.video.reading import open_video
from svgan_ray.video.writing import SYNTHETIC_TAGS, VideoWriter

__all__ = ["PAGE", "STRIP", "Table", "write_demo_page"]

PAGE, STRIP = "index.html", "film_strip.png"
STRIP_COLUMNS, STRIP_EVERY_S = 10, 0.4

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Table:
    """A row of titles and rows of text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Shown:
    """A video of the page."""

    path: Path
    label: str


def write_demo_page(plan: DemoPlan, stages: Table) -> None:
    """Write the comparison videos, the film strip and the page into the demo's folder."""
    truth, others = _real_videos(plan)
    samples = [Shown(Path(s.out), f"generated (synthetic), seed {s.seed}") for s in plan.samples]
    moved = [Shown(Path(s.out), f"{plan.other}, seed {s.seed}") for s in plan.transfers]
    strip = _film_strip([*truth, *samples, *others, *moved])
    save_png(plan.folder / STRIP, strip)
    parts = [
        paragraph(
            f"A model of how {plan.subject} moves, learned from latents of footage. "
            "What is marked as generated never happened."
        ),
        *_expected(plan),
        section(
            f"{plan.subject}: footage, aligned; what its latents show; generated",
            _players(plan, [*truth, *samples[:1]]),
        ),
        section(f"{plan.subject}: more that was generated", _players(plan, samples[1:])),
        *([section(f"The same motion on {plan.other}", _players(plan, [*others, *moved]))] if moved else []),
        section("Side by side in time", picture(strip, f"columns are {STRIP_EVERY_S:g} s apart")),
        *_fitted(plan),
        section("How the motion compares with the footage", _evaluation(Path(plan.evaluate.out))),
        section("Stages", table(stages.header, stages.rows)),
    ]
    write_page(plan.folder / PAGE, page(f"svgan-ray demo: {plan.subject}", *parts))


def _expected(plan: DemoPlan) -> list[Html]:
    notes = expectations(facts_of(plan)) if plan.fit is not None else []
    return [bullets(notes)] if notes else []


def _fitted(plan: DemoPlan) -> list[Html]:
    """Scores of the fitted weights on footage that they never saw, as their record keeps them."""
    if plan.fit is None:
        return []
    source = json.loads(Path(plan.fit.out, "generator", RECORD).read_text("utf-8"))["source"]
    rows = [(name, f"{value:.3g}") for name, value in source["held_out"].items()]
    text = (
        "On frames of the footage that were never trained on. PSNR in decibels, of the whole, the eyes and "
        "the mouth; of the two finest octaves the energy over the footage's, and the coherence with it."
    )
    scores = table(("score", "value"), rows)
    return [section("How near the fitted weights are", paragraph(text), scores, paragraph(source["consent"]))]


def _evaluation(path: Path) -> Html:
    """Table and figure of the evaluation's report."""
    keys = ("measure", "of", "value", "unit", "windows", "verdict")
    rows = [row for row in json.loads(path.read_text("utf-8"))["rows"] if row["value"] is not None]
    cells = [[f"{row[k]:.3g}" if isinstance(row[k], float) else str(row[k]) for k in keys] for row in rows]
    hint = (
        "The smaller the motion distance, the nearer the motion is to the footage; the rows of rivals say "
        "what the simplest other methods reach on the same footage. A floor is the distance from one half of "
        "the footage to the other. Where the verdict begins with `not fit`, the footage is too short for the "
        "value to be read."
    )
    figure = png(
        path.with_suffix(".png").read_bytes(), "distances, shares, spectra, courses over time, copying"
    )
    return Html(paragraph(hint) + table(keys, cells) + figure)


def _players(plan: DemoPlan, videos: Sequence[Shown]) -> Html:
    return side_by_side(*(video(v.path.relative_to(plan.folder), v.label) for v in videos))


def _real_videos(plan: DemoPlan) -> tuple[list[Shown], list[Shown]]:
    """Aligned footage and its reconstruction; aligned footage of the other subject, if there is any."""
    store, place = open_store(plan.train.store), plan.folder / "samples"
    generator = load_generator(weights_folders(plan.train.weights)[0])
    side = generator.config.resolution
    clip = longest_clip(store, plan.inversion_id, plan.subject)
    frames = round(SAMPLE_SECONDS * clip.frame_rate_hz)
    w_plus = store.read_clip(plan.inversion_id, clip.clip_id).w_plus[:frames]
    footage = Shown(place / f"{plan.subject}-footage.mp4", "footage")
    again = Shown(place / f"{plan.subject}-reconstruction.mp4", "its latents (synthetic)")
    _write(footage.path, clip, aligned_footage(store, clip, frames, side), side)
    _write(again.path, clip, render(generator, [w_plus]), side, is_synthetic=True)
    return [footage, again], _other_footage(plan, store, side)


def _other_footage(plan: DemoPlan, store: LatentStore, side: int) -> list[Shown]:
    if len(plan.videos) == 1:
        return []
    clip = longest_clip(store, plan.inversion_id, plan.other)
    shown = Shown(plan.folder / "samples" / f"{plan.other}-footage.mp4", f"{plan.other}, footage")
    frames = round(SAMPLE_SECONDS * clip.frame_rate_hz)
    _write(shown.path, clip, aligned_footage(store, clip, frames, side), side)
    return [shown]


def _write(
    path: Path, clip: CommitRecord, batches: Iterator[Frames], side: int, is_synthetic: bool = False
) -> None:
    tags = SYNTHETIC_TAGS if is_synthetic else None
    with VideoWriter(path, side, side, clip.frame_rate_hz, tags) as writer:
        for batch in batches:
            writer.write(batch)


def _film_strip(videos: Sequence[Shown]) -> Frames:
    return film_strip([_first_frames(v.path) for v in videos], STRIP_COLUMNS, [v.label for v in videos])


def _first_frames(path: Path) -> Frames:
    with open_video(path) as video:
        wanted = round((STRIP_COLUMNS - 1) * STRIP_EVERY_S * video.info.frame_rate_hz) + 1
        return video.read(0, min(wanted, video.info.frame_count))
