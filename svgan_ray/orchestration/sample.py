"""Videos from a trained model: noise -> latents -> pictures -> H.264, streamed, so of any length."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor

from svgan_ray.config import SampleConfig, flatten
from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.orchestration.cluster import durable
from svgan_ray.orchestration.sample_subjects import subject_latents
from svgan_ray.orchestration.training.folders import local_file, model_folder
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.memory import require_memory, synthesis_bytes
from svgan_ray.stylegan.weights import load_generator, weights_folders, weights_hash
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.rendering import BATCH_FRAMES, render
from svgan_ray.temporal.sampling import sample_latents, transfer
from svgan_ray.tracking import open_tracker
from svgan_ray.video.pictures import film_strip
from svgan_ray.video.writing import SYNTHETIC_TAGS, VideoWriter

__all__ = ["SamplePlan", "SampleReport", "plan_sample", "sample"]

STRIP_COLUMNS = 10


@dataclass(frozen=True)
class SamplePlan:
    """A video to be made, with the model loaded."""

    config: SampleConfig
    model: MotionModel
    model_sha256: str
    out: Path
    frames: int

    def __rich__(self) -> Table:
        card = self.model.card
        table = Table(box=None, show_header=False)
        table.add_row("model", f"{card.get('subject', 'unknown')}, {card.get('steps', 0):,} steps")
        table.add_row("moves", self.config.subject or "the model's own subject")
        table.add_row("length", f"{self.frames:,} frames at {self.model.frame_rate_hz:g} Hz")
        table.add_row("video", str(self.out))
        return table


@dataclass(frozen=True)
class SampleReport:
    """A video that was made."""

    plan: SamplePlan
    duration_s: float

    exit_code = 0

    def __rich__(self) -> Table:
        table = self.plan.__rich__()
        table.add_row("took", f"{self.duration_s:.1f} s, {self.plan.frames / self.duration_s:.1f} frames/s")
        return table


def sample(config: SampleConfig) -> SampleReport:
    """Make the video that `config` describes. Raises WeightsError, ConfigError, DataError, MachineError."""
    began_s = time.monotonic()
    plan = plan_sample(config)
    generator = load_generator(weights_folders(config.weights)[0], plan.model.w_ref.device)
    if plan.model.w_ref.device.type == "cpu":
        side = generator.config.resolution
        require_memory(synthesis_bytes(generator.config, BATCH_FRAMES), f"a video of {side} px")
    chunks = _latents(plan, generator)
    try:
        strip = _write_video(plan, generator, chunks)
    except OSError as error:
        raise ConfigError(f"--out {plan.out}: cannot be written: {error.strerror}") from error
    report = SampleReport(plan, time.monotonic() - began_s)
    _log(report, strip)
    return report


def plan_sample(config: SampleConfig) -> SamplePlan:
    """Load the model and see that everything fits together."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with model_folder(durable(config.model, "--model")) as folder:
        model, model_sha256 = load_model(folder).to(device), weights_hash(folder)
    sha256 = weights_hash(weights_folders(config.weights)[0])
    if model.generator_sha256 != sha256:
        raise WeightsError(
            f"--weights {config.weights}: the model {config.model} belongs to generator "
            f"{model.generator_sha256[:12]}, these weights hold {sha256[:12]}"
        )
    num_ws = model.w_ref.shape[0]
    if config.layers is not None and not set(config.layers) <= set(range(num_ws)):
        raise ConfigError(f"--layers {config.layers}: expected numbers from 0 to {num_ws - 1}")
    frames = max(1, round(config.seconds * model.frame_rate_hz))
    return SamplePlan(config, model, model_sha256, local_file(config.out, "--out"), frames)


def _latents(plan: SamplePlan, generator: Generator) -> Iterator[Tensor]:
    """W+ chunks [t, n, d] of the model's subject, or of another one by the offset trick."""
    config, model = plan.config, plan.model
    chunks = sample_latents(model, config.seed, plan.frames, truncation=config.truncation)
    if config.subject is None:
        return chunks
    inversion_id = str(model.card.get("inversion_id", ""))
    w_new = subject_latents(config.subject, config.store, inversion_id, config.weights, generator)
    w_new = w_new.to(model.w_ref.device)
    return (transfer(chunk, model.w_ref, w_new, config.strength, config.layers) for chunk in chunks)


def _write_video(plan: SamplePlan, generator: Generator, chunks: Iterator[Tensor]) -> npt.NDArray[np.uint8]:
    """Render into the file; returns a film strip of it."""
    side, done = generator.config.resolution, 0
    wanted = set(np.linspace(0, plan.frames - 1, STRIP_COLUMNS).round().astype(int).tolist())
    shown = []
    tags = {**SYNTHETIC_TAGS, "title": f"svgan-ray sample, seed {plan.config.seed}"}
    with VideoWriter(plan.out, side, side, plan.model.frame_rate_hz, tags) as video:
        for pictures in track(render(generator, chunks), "sampling", -(-plan.frames // BATCH_FRAMES)):
            video.write(pictures)
            shown += [picture for number, picture in enumerate(pictures, done) if number in wanted]
            done += len(pictures)
    return film_strip([np.stack(shown)], len(shown))


def _log(report: SampleReport, strip: npt.NDArray[np.uint8]) -> None:
    plan = report.plan
    settings = {name: str(value) for name, value in flatten(plan.config).items()}
    identity = f"sample-{content_id({**settings, 'model': plan.model_sha256})}"
    with open_tracker(plan.config.experiment, f"sample {plan.out.stem}", "sample", identity) as tracker:
        tracker.log_params(settings)
        tracker.set_tags({"model_sha256": plan.model_sha256, "model": plan.model.card.get("store_name", "")})
        tracker.log_metrics({"frames_per_s": plan.frames / report.duration_s}, 0)
        tracker.log_image(strip, "sample", 0)
        tracker.log_artifact(plan.out, "samples")
