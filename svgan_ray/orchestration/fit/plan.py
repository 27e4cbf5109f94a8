"""A fit with all settings resolved: its footage, its identity, and the places of its results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from svgan_ray.config import FitConfig
from svgan_ray.device import best_device
from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.orchestration.fit.footage import Footage, footage_of
from svgan_ray.orchestration.fit.tracks import inverted_clips, tracked_clips
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.folders import read_record
from svgan_ray.orchestration.runtime.journal import RunKey
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.fitting import Batch, Fitter, FittingConfig, crop_side, fixed_regions
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.memory import encoding_bytes, synthesis_bytes
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_hash

__all__ = [
    "FINISHED",
    "SETTLED",
    "Finished",
    "FitPlan",
    "Settled",
    "plan_fit",
    "step_time_s",
    "steps_for",
    "with_estimate",
]

FINISHED, SETTLED = "finished.json", "settled.json"
_SCHEMA = 1
_TIMED_STEPS = 3


@dataclass(frozen=True)
class Settled:
    """Facts that are measured once for the whole fit, stored beside its checkpoints."""

    steps: int
    step_s: float
    portions: int


@dataclass(frozen=True)
class Finished:
    """The end of a fit, stored beside its checkpoints."""

    steps: int
    elapsed_s: float
    best_step: int
    before: dict[str, float]
    scores: dict[str, float]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class FitPlan:
    """A fit with all settings resolved."""

    config: FitConfig
    store: LatentStore
    folders: tuple[Path, Path]
    hashes: tuple[str, str]
    footage: Footage
    digest: str
    """Digest of the footage that is fitted to."""
    id: str
    side: int
    memory_bytes: int
    """Peak memory of a worker on a CPU."""
    checkpoints: str
    out: str
    settled: Settled | None = None
    finished: Finished | None = None
    estimate: str = field(default="")

    @property
    def name(self) -> str:
        """Name of the fit among the checkpoints."""
        return f"{'-'.join(map(_plain, self.footage.subjects))[:64]}-{self.id[:16]}"

    @property
    def folder(self) -> str:
        """The folder of this fit's checkpoints."""
        return f"{self.checkpoints}/{self.name}"

    @property
    def run(self) -> RunKey:
        """The key of its run."""
        return RunKey(self.config.experiment, f"fit {Path(self.out).name}", "fit", f"fit-{self.id}")

    @property
    def footage_bytes(self) -> int:
        """The size of all crops together."""
        return (sum(self.footage.training) + sum(self.footage.held_out)) * 3 * self.side**2

    def fitting(self, steps: int) -> FittingConfig:
        """The settings of its fitter."""
        config = self.config
        return FittingConfig(
            what=config.what,
            steps=steps,
            batch=config.batch,
            micro_batch=min(config.micro_batch, config.batch),
            seed=config.seed,
        )

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False)
        footage = self.footage
        for subject, training, held_out in zip(
            footage.subjects, footage.training, footage.held_out, strict=True
        ):
            table.add_row(
                "subject", f"{subject}: {training:,} frames to train on, {held_out} to be scored on"
            )
        table.add_row("crops", f"{self.side} px, {self.footage_bytes / 1e6:,.0f} MB")
        table.add_row("fit", f"{self.id}, {self.config.what}")
        table.add_row("time", self.estimate)
        table.add_row("checkpoints", self.folder)
        table.add_row("weights", self.out)
        if self.finished is not None:
            table.add_row("earlier runs", f"{self.finished.steps:,} steps; finished already")
        return table


def plan_fit(config: FitConfig, put: bool = True) -> FitPlan:
    """Resolve weights, footage and identity; `put` stores new snapshots.

    Raises DataError, ConfigError, WeightsError, InputError, all before anything starts.
    """
    store = open_store(durable(config.store, "--store"))
    folders = folders_of(config.weights)
    if Path(durable(config.out, "--out")) == folders[0].parent:
        raise ConfigError(f"--out {config.out}: holds the weights that the fit begins with; choose another")
    generator, encoder = _networks(config, folders)
    hashes = weights_hash(folders[0]), weights_hash(folders[1])
    if config.what == "both":
        clips = tracked_clips(store, config)
        identities = sorted(clip.clip.clip_id for clip in clips)
    else:
        clips, snapshots = inverted_clips(store, config, hashes[0], put)
        identities = [snapshot.digest for snapshot in snapshots]
    subjects = config.subjects or (clips[0].clip.subject,)
    footage = footage_of(clips, subjects)
    fewest = min(footage.training) // -(-config.batch // len(subjects))
    if config.batch < len(subjects) or fewest < 1:
        raise ConfigError(
            f"--batch {config.batch}: expected a place for each of {len(subjects)} subjects, and a frame for "
            f"each place; the least footage has {min(footage.training)} frames"
        )
    digest = content_id({"footage": identities})
    plan = FitPlan(
        config=config,
        store=store,
        folders=folders,
        hashes=hashes,
        footage=footage,
        digest=digest,
        id=content_id({**_identity(config, subjects), "hashes": hashes, "footage": digest}),
        side=crop_side(generator, encoder),
        memory_bytes=_memory_bytes(generator, encoder, config),
        checkpoints=durable(config.checkpoints, "--checkpoints"),
        out=durable(config.out, "--out"),
    )
    settled, finished = read_record(plan.folder, SETTLED), read_record(plan.folder, FINISHED)
    return dataclasses.replace(
        plan,
        settled=Settled(**settled) if settled else None,
        finished=Finished(**finished) if finished else None,
    )


def with_estimate(plan: FitPlan) -> FitPlan:
    """The plan with its expected duration, from one step that is timed on this machine."""
    generator, encoder = _networks(plan.config, plan.folders)
    step_s = step_time_s(generator, encoder, plan.fitting(1), plan.config.batch // plan.config.workers)
    steps = plan.settled.steps if plan.settled else steps_for(plan, step_s)
    minutes = steps * step_s * overhead(plan) / 60
    text = f"about {minutes:.1f} minutes here ({steps:,} steps of {step_s:.2f} s), beside decoding"
    return dataclasses.replace(plan, estimate=text)


def steps_for(plan: FitPlan, step_s: float) -> int:
    """The number of steps that fit into the minutes, including the time for scores and outliers."""
    config = plan.config
    if config.steps is not None:
        return config.steps
    outliers_s = step_s * sum(plan.footage.training) / (12 * config.batch)
    return max(1, round((60 * config.minutes - outliers_s) / (step_s * overhead(plan))))


def overhead(plan: FitPlan) -> float:
    """The factor by which scoring lengthens a step on average; a score needs only forward passes."""
    scored = sum(plan.footage.held_out) / (3 * plan.config.batch)
    return 1 + scored / plan.config.checkpoint_every_steps


def step_time_s(generator: Generator, encoder: Encoder, config: FittingConfig, images: int) -> float:
    """Median time of a step of `images` images on this process's device."""
    device = best_device()
    config = dataclasses.replace(config, batch=max(1, images), steps=_TIMED_STEPS + 1)
    fitter = Fitter(generator, encoder, config, device)
    side = crop_side(fitter.generator, fitter.encoder)
    crops = torch.zeros(config.batch, side, side, 3, dtype=torch.uint8)
    num_ws, w_dim = fitter.generator.config.num_ws, fitter.generator.config.w_dim
    w_plus = torch.zeros(config.batch, num_ws, w_dim)
    batch, times_s = Batch(crops, fixed_regions(config.batch), w_plus), []
    for _ in range(config.steps):
        began_s = time.perf_counter()
        fitter.train_step(batch)
        times_s.append(time.perf_counter() - began_s)
    return float(np.median(times_s[1:]))


def _networks(config: FitConfig, folders: tuple[Path, Path]) -> tuple[Generator, Encoder]:
    if not (folders[1] / "model.json").exists():
        raise WeightsError(
            f"--weights {config.weights}: holds no encoder, and a fit reads footage with one; name weights "
            "that hold `generator` and `encoder`"
        )
    return load_generator(folders[0]), load_encoder(folders[1])


def _identity(config: FitConfig, subjects: Sequence[str]) -> dict[str, Any]:
    return {
        "subjects": list(subjects),
        "what": config.what,
        "minutes": config.minutes if config.steps is None else None,
        "steps": config.steps,
        "batch": config.batch,
        "seed": config.seed,
        "schema": _SCHEMA,
    }


def _memory_bytes(generator: Generator, encoder: Encoder, config: FitConfig) -> int:
    """Weights, gradients and Adam's two moments, and the feature maps of a micro-batch."""
    micro_batch = min(config.micro_batch, -(-config.batch // config.workers))
    maps = synthesis_bytes(generator.config, micro_batch, with_gradients=True)
    trained = [generator, encoder] if config.what == "both" else [generator]
    if config.what == "both":
        maps += 3 * encoding_bytes(encoder.config, micro_batch)
    tensors = [tensor for network in trained for tensor in network.state_dict().values()]
    weights_bytes: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return maps + 4 * weights_bytes


def _plain(subject: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in subject)
