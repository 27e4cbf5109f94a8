"""The plan of a sample: the model, who moves and how long, in a form that can be sent to workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor

from svgan_ray.config import SampleConfig
from svgan_ray.device import best_device
from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.folders import local_file, model_folder
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.orchestration.sample.paste import PasteTarget, paste_target
from svgan_ray.orchestration.sample.subjects import photo_latents, subject_latents
from svgan_ray.store import open_store
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.memory import require_memory, synthesis_bytes
from svgan_ray.stylegan.weights import load_generator, rendered_hashes, weights_hash
from svgan_ray.temporal.model import MotionModel, load_model
from svgan_ray.temporal.sampling import Blend, latents_of_samples, transfer

__all__ = ["Motion", "SamplePlan", "motion_of", "plan_sample"]


@dataclass(frozen=True)
class SamplePlan:
    """Videos to be made, with the model loaded."""

    config: SampleConfig
    model: MotionModel
    model_sha256: str
    out: str
    frames: int
    paste: PasteTarget | None = None
    """The video into which the generated face is pasted."""

    @property
    def makes_a_folder(self) -> bool:
        """Whether the job writes several videos, one for each sample."""
        return self.config.makes_a_folder

    def load_generator(self) -> Generator:
        """The synthesis network on the model's device. Raises WeightsError and MachineError."""
        generator = load_generator(folders_of(self.config.weights)[0], self.model.w_ref.device)
        if self.model.w_ref.device.type == "cpu":
            needed = synthesis_bytes(generator.config, self.config.batch_frames)
            require_memory(needed, f"a video of {generator.config.resolution} px")
        return generator

    def __rich__(self) -> Table:
        card, count = self.model.card, self.config.samples
        table = Table(box=None, show_header=False)
        table.add_row("model", f"{card.get('subject', 'unknown')}, {card.get('steps', 0):,} steps")
        table.add_row("moves", self.config.photo or self.config.subject or "the model's own subject")
        table.add_row("length", f"{self.frames:,} frames at {self.model.frame_rate_hz:g} Hz")
        if self.paste is not None:
            table.add_row("pasted into", f"{self.paste.video}, {len(self.paste.numbers):,} frames")
        shown = "side by side" if self.config.grid else "one video each"
        table.add_row("samples", f"{count:,}, {shown}" if count > 1 else "1")
        table.add_row("folder" if self.makes_a_folder else "video", self.out)
        return table


@dataclass(frozen=True)
class Motion:
    """W+ of samples by number, for the model's subject, or for another one by the offset trick."""

    config: SampleConfig
    model: MotionModel
    frames: int
    w_new: Tensor | None  # [n, d] of another subject that moves instead

    def latents(self, samples: Sequence[int], chunk_frames: int) -> Iterator[Tensor]:
        """Chunks [N, t, n, d]; t is `chunk_frames` except in the last one."""
        config, model = self.config, self.model
        blend = None if config.blend_seed is None else Blend(config.blend_seed, config.blend)
        chunks = latents_of_samples(
            model, config.seed, self.frames, samples, config.truncation, chunk_frames, blend
        )
        return chunks if self.w_new is None else self._transferred(chunks, self.w_new)

    def _transferred(self, chunks: Iterator[Tensor], w_new: Tensor) -> Iterator[Tensor]:
        w_ref = self.model.w_ref if self.config.reference == "mean" else None
        for chunk in chunks:
            if w_ref is None:
                w_ref = chunk[:, :1]  # [N, 1, n, d]
            yield transfer(chunk, w_ref, w_new, self.config.strength, self.config.layers)

    def to(self, device: torch.device | str) -> Motion:
        w_new = None if self.w_new is None else self.w_new.to(device)
        return dataclasses.replace(self, model=self.model.to(device), w_new=w_new)


def plan_sample(config: SampleConfig) -> SamplePlan:
    """Load the model and check that everything fits together. Raises WeightsError, ConfigError."""
    _require_a_use(config)
    device = best_device()
    with model_folder(durable(config.model, "--model")) as folder:
        model, model_sha256 = load_model(folder).to(device), weights_hash(folder)
    rendered = rendered_hashes(folders_of(config.weights)[0])
    if model.generator_sha256 not in rendered:
        raise WeightsError(
            f"--weights {config.weights}: the model {config.model} belongs to generator "
            f"{model.generator_sha256[:12]}, these weights hold {rendered[0][:12]}"
        )
    num_ws = model.w_ref.shape[0]
    if config.layers is not None and not set(config.layers) <= set(range(num_ws)):
        raise ConfigError(f"--layers {config.layers}: expected numbers from 0 to {num_ws - 1}")
    frames, paste = max(1, round(config.seconds * model.frame_rate_hz)), None
    if config.paste_into is not None:
        paste = _paste_target(config, config.paste_into, model)
        frames = paste.generated_frames
    plan = SamplePlan(config, model, model_sha256, config.out, frames, paste)
    if plan.makes_a_folder:
        return dataclasses.replace(plan, out=durable(config.out.removesuffix(".mp4"), "--out"))
    return dataclasses.replace(plan, out=str(local_file(config.out, "--out")))


def _paste_target(config: SampleConfig, video: str, model: MotionModel) -> PasteTarget:
    store = open_store(durable(config.store, "--store"))
    subject = config.subject or str(model.card.get("subject", ""))
    inversion_id = str(model.card.get("inversion_id", ""))
    return paste_target(video, store, inversion_id, subject, config.seconds, model.frame_rate_hz)


def _require_a_use(config: SampleConfig) -> None:
    """Raise ConfigError for a flag without effect. An experiment file may hold it for other runs."""
    is_own = config.photo is None and config.subject is None
    needs_other = {"strength": config.strength != 1, "layers": config.layers is not None}
    needs_other["reference"] = config.reference != "mean"
    if is_own and (idle := [name for name, is_set in needs_other.items() if is_set]):
        raise ConfigError(f"--{idle[0]}: says how another subject moves; name one with --subject or --photo")
    if config.blend_seed is None and config.blend != SampleConfig.blend:
        raise ConfigError("--blend: says how far towards a second motion; name it with --blend-seed")


def motion_of(plan: SamplePlan, generator: Generator) -> Motion:
    """The motion, with the latents of the one who moves, from the store or from a photo.

    Raises DataError, LandmarksError, ConfigError.
    """
    config, w_new = plan.config, None
    if config.photo is not None:
        w_new = photo_latents(config.photo, config.faces, config.refine_steps, config.weights, generator)
    elif config.subject is not None:
        inversion_id = str(plan.model.card.get("inversion_id", ""))
        w_new = subject_latents(config.subject, config.store, inversion_id, config.weights, generator)
    return Motion(config, plan.model, plan.frames, w_new).to(plan.model.w_ref.device)
