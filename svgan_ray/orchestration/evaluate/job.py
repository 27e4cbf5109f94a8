"""How a model's motion compares with footage: a table, JSON beside it, a figure, a run."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from svgan_ray.config import DataChoice, EvaluateConfig, flatten
from svgan_ray.device import best_device
from svgan_ray.errors import ConfigError, DataError, MlflowError
from svgan_ray.files import write_whole
from svgan_ray.latents.windows import valid_segments
from svgan_ray.metrics.evaluation import MotionReport, Row, evaluate_motion
from svgan_ray.orchestration.evaluate.pixels import (
    LoadedNetworks,
    PixelReport,
    draw_pixels,
    evaluate_pixels,
    load_networks,
)
from svgan_ray.orchestration.evaluate.plots import draw_plots
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.folders import local_file, model_folder
from svgan_ray.orchestration.runtime.settings import log_settings
from svgan_ray.orchestration.runtime.snapshots import (
    links_of,
    named_snapshot,
    resolve_snapshot,
    snapshot_rows,
)
from svgan_ray.orchestration.runtime.terminal import status_line
from svgan_ray.orchestration.train.data import resampled_clips
from svgan_ray.orchestration.train.validation import FRECHET, OBJECTIVE, distance_of, frechet_of
from svgan_ray.runs import Dataset, default_uri, open_run
from svgan_ray.runs.registry import Score, promote, registered_name
from svgan_ray.store import LatentStore, Snapshot, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.model import MotionModel, load_model

__all__ = ["EvaluateReport", "EvaluationPlan", "plan", "run"]

_SCHEMA = 1
_PIXELS = ".pixels.png"


@dataclass(frozen=True)
class EvaluationPlan:
    """A model and the footage that it is compared with."""

    config: EvaluateConfig
    store: LatentStore
    model: MotionModel
    model_sha256: str
    real: Snapshot
    held_out: Snapshot | None
    networks: LoadedNetworks | None
    out: Path

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False)
        table.add_row("model", self.config.model)
        snapshot_rows(self.real, table)
        if self.held_out is not None:
            table.add_row("", "held-out footage:")
            snapshot_rows(self.held_out, table)
        table.add_row("generated", f"{self.config.samples} samples of {self.config.seconds:g} s")
        if self.networks is not None:
            table.add_row("pictures", f"{self.config.clips:,} clips for {', '.join(self.networks.sha256)}")
        table.add_row("report", str(self.out))
        return table


@dataclass(frozen=True)
class EvaluateReport:
    """The results of an evaluation."""

    plan: EvaluationPlan
    motion: MotionReport
    pixels: PixelReport | None
    standing: str
    """A sentence on the registry's champion."""

    exit_code = 0

    @property
    def rows(self) -> list[Row]:
        """The whole table."""
        return [*self.motion.rows(), *(self.pixels.rows if self.pixels else ())]

    @property
    def scores(self) -> dict[str, float]:
        """Flat names and values, as a run takes them."""
        return {**self.motion.scores(), **(self.pixels.scores() if self.pixels else {})}

    def __rich__(self) -> Table:
        table = Table("measure", "of", "value", "unit", "windows", "verdict", box=None)
        table.columns[2].justify = table.columns[4].justify = "right"
        for row in self.rows:
            cells = (row.measure, row.compared, f"{row.value:.3g}", row.unit, f"{row.windows:,}", row.verdict)
            table.add_row(*cells)
        pictures = " and one of pictures, whose protocol stands in each row" if self.pixels else ""
        table.caption = f"{self.plan.out} and a figure beside it{pictures}; {self.standing}"
        return table

    def to_json(self) -> str:
        """The table, the flat figures, and what they were made from; a value that is not a number is null."""
        plan = self.plan
        document = {
            "schema": _SCHEMA,
            "model": {"place": plan.config.model, "sha256": plan.model_sha256, "card": plan.model.card},
            "real": {"snapshot": plan.real.name, "digest": plan.real.digest},
            "held_out": plan.held_out and {"snapshot": plan.held_out.name, "digest": plan.held_out.digest},
            "samples": plan.config.samples,
            "seconds": plan.config.seconds,
            "seed": plan.config.seed,
            "figures": {name: _number(value) for name, value in self.scores.items()},
            "rows": [_stored(row) for row in self.rows],
        }
        return json.dumps(document, indent=2, allow_nan=False) + "\n"


def run(config: EvaluateConfig) -> EvaluateReport:
    """Measure, write report and figure, log the run. Raises WeightsError, DataError, StoreError."""
    resolved = plan(config)
    with status_line("generating and comparing motion"):
        real, held_out = _clips(resolved, resolved.real), _clips(resolved, resolved.held_out)
        motion = evaluate_motion(
            resolved.model, real, held_out, samples=config.samples, seconds=config.seconds, seed=config.seed
        )
    pixels = None
    if resolved.networks is not None:
        pixels = evaluate_pixels(config, resolved.networks, resolved.model, resolved.store, resolved.real)
    report = EvaluateReport(resolved, motion, pixels, _standing(resolved, motion))
    try:
        _write(report, real)
    except OSError as error:
        raise ConfigError(f"--out {resolved.out}: cannot be written: {error.strerror}") from error
    _log(report)
    return report


def _write(report: EvaluateReport, real: list[Tensor]) -> None:
    """The report, and figures beside it: each whole or not at all."""
    plan = report.plan
    write_whole(plan.out, report.to_json())
    draw_plots(report.motion, plan.model, real, plan.out.with_suffix(".png"))
    if report.pixels is not None:
        draw_pixels(report.pixels, plan.out.with_suffix(_PIXELS))


def plan(config: EvaluateConfig) -> EvaluationPlan:
    """Load the model and find the footage."""
    device = best_device()
    with model_folder(durable(config.model, "--model")) as folder:
        model, model_sha256 = load_model(folder).to(device), weights_hash(folder)
    store = open_store(durable(config.store, "--store"))
    held_out = None
    if config.snapshot is not None:
        held_out = named_snapshot(store, config.snapshot)
        _require_same_generator(model, held_out)
    out = local_file(config.out, "--out")
    networks = None if config.networks is None else load_networks(config.networks, device)
    real = _real(store, model, config.subject)
    return EvaluationPlan(config, store, model, model_sha256, real, held_out, networks, out)


def _real(store: LatentStore, model: MotionModel, subject: str | None) -> Snapshot:
    """The snapshot that the model learnt from, or all clips of the requested subject."""
    if subject is not None:
        choice = DataChoice(subject=subject, inversion=model.card.get("inversion_id"))
        return resolve_snapshot(store, choice, model.generator_sha256, put=False)
    snapshot = named_snapshot(store, str(model.card.get("snapshot", "unknown")))
    if snapshot.digest != model.card.get("snapshot_digest"):
        raise DataError(
            f"{store.uri}: snapshot {model.card['snapshot']} is not the one that the model was trained on; "
            "name the model's store, or a --subject"
        )
    return snapshot


def _require_same_generator(model: MotionModel, snapshot: Snapshot) -> None:
    if snapshot.generator_sha256 != model.generator_sha256:
        raise DataError(
            f"snapshot {snapshot.name}: its latents were made with generator "
            f"{snapshot.generator_sha256[:12]}, the model's with {model.generator_sha256[:12]}"
        )


def _clips(plan: EvaluationPlan, snapshot: Snapshot | None) -> list[Tensor]:
    """Valid spans of W+ [T, n, d] at the model's frame rate."""
    if snapshot is None:
        return []
    clips = resampled_clips(plan.store, snapshot, plan.model.frame_rate_hz)
    return [w_plus[first:stop] for w_plus, valid in clips for first, stop in valid_segments([valid])]


def _standing(plan: EvaluationPlan, motion: MotionReport) -> str:
    """Move the registry's alias to this model if it is closer to the footage than the champion."""
    card, config = plan.model.card, plan.config
    if "subject" not in card:
        return "the model names no subject: it is not registered"
    held_against = {"real": plan.real.digest, "held_out": plan.held_out and plan.held_out.digest}
    generated = {"samples": config.samples, "seconds": config.seconds, "seed": config.seed}
    measure = {"measure": OBJECTIVE}  # a champion of another measure is not comparable
    score = Score(distance_of(motion), content_id({**held_against, **generated, **measure}))
    try:
        return promote(default_uri(), registered_name(card["subject"]), plan.model_sha256, score)
    except MlflowError as error:
        return f"the registry was not asked: {error}"


def _stored(row: Row) -> dict[str, Any]:
    """A row as reports hold it; they have always called what is compared `of`."""
    values = {name: _number(value) for name, value in dataclasses.asdict(row).items()}
    return {"of" if name == "compared" else name: value for name, value in values.items()}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _log(report: EvaluateReport) -> None:
    plan = report.plan
    settings = {name: str(value) for name, value in flatten(plan.config).items()}
    identity = f"evaluate-{content_id({**settings, 'model': plan.model_sha256, 'real': plan.real.digest})}"
    run_name = f"evaluate {Path(plan.config.model).name}"
    with open_run(plan.config.experiment, run_name, "evaluate", identity) as run:
        log_settings(run, plan.config)
        run.set_tags({"model_sha256": plan.model_sha256})
        run.link(links_of(plan.model.card))
        for snapshot, context in ((plan.real, "evaluation"), (plan.held_out, "held out")):
            if snapshot is not None:
                run.log_input(snapshot.name, snapshot.digest, plan.store.uri, context)
        finite = {k: v for k, v in report.scores.items() if math.isfinite(v)}
        on = Dataset(plan.real.name, plan.real.digest)
        compared = {OBJECTIVE: distance_of(report.motion), FRECHET: frechet_of(report.motion)}
        run.log_metrics({**finite, **compared}, 0, plan.model_sha256, on)
        for suffix in (plan.out.suffix, ".png", *([_PIXELS] if report.pixels else [])):
            run.log_artifact(plan.out.with_suffix(suffix))
