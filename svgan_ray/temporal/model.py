"""A trained motion model: the folder that sampling, evaluation and serving read."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.errors import WeightsError
from svgan_ray.files import written_whole_folder
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.temporal.checkpoints import under
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.state import MotionGenerator, TrainingState, restore
from svgan_ray.temporal.training import build_generator

__all__ = ["MotionModel", "load_model", "model_of", "save_model"]

SCHEMA = 1
TENSORS, RECORD, CARD = "model.safetensors", "model.json", "README.md"

CONSENT = (
    "The motion of this model was learned from footage of a person. Having that person's consent, and "
    "marking what is made with it as synthetic, is up to whoever uses it."
)


@dataclass(frozen=True)
class MotionModel:
    """The averaged generator and everything that is needed to turn its output into W+."""

    config: TemporalConfig
    generator: MotionGenerator  # eval mode, no gradients
    basis: LatentBasis
    w_ref: Tensor  # [n, d], the training subject's mean, which the offset trick subtracts
    generator_sha256: str  # of the synthesis network to which the W+ belong
    card: dict[str, Any] = field(default_factory=dict)  # what it was trained on; JSON values

    @property
    def frame_rate_hz(self) -> float:
        return self.config.frame_rate_hz

    def decode(self, features: Tensor) -> Tensor:
        """The generator's output [..., F] as W+ [..., n, d]."""
        return restore(self.config, self.basis, features)

    def to(self, device: torch.device | str) -> MotionModel:
        """A copy of the model on a device, with its own copy of the network; this model stays where it is."""
        basis, w_ref = self.basis.to(device), self.w_ref.to(device)
        generator = copy.deepcopy(self.generator).to(device)
        return MotionModel(self.config, generator, basis, w_ref, self.generator_sha256, self.card)


def model_of(
    state: TrainingState, w_ref: Tensor, generator_sha256: str, card: dict[str, Any] | None = None
) -> MotionModel:
    """The model of a training state; later training steps do not change it."""
    generator = state.finished_generator()
    card = {"steps": state.step, **(card or {})}
    return MotionModel(state.config, generator, state.basis.to("cpu"), w_ref.cpu(), generator_sha256, card)


def save_model(model: MotionModel, folder: str | Path) -> None:
    """Write the model as safetensors, JSON and a card; `folder` appears complete or replaces an older one."""
    with written_whole_folder(folder) as partial:
        _write(model, partial)


def load_model(folder: str | Path) -> MotionModel:
    """The model in `folder`. Raises WeightsError if it is missing, damaged or of a newer version."""
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text())
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no motion model: {error}") from error
    if record.get("schema") != SCHEMA:
        raise WeightsError(
            f"{folder / RECORD} has schema {record.get('schema')}, this version reads {SCHEMA}"
        )
    config = TemporalConfig.from_dict(record["config"])
    basis = LatentBasis.from_state(under(tensors, "basis"))
    generator = build_generator(config, basis.num_ws, basis.w_dim)
    generator.load_state_dict(under(tensors, "generator"))
    generator.eval().requires_grad_(False)
    return MotionModel(config, generator, basis, tensors["w_ref"], record["generator_sha256"], record["card"])


def _write(model: MotionModel, folder: Path) -> None:
    tensors = {f"generator.{name}": t for name, t in model.generator.state_dict().items()}
    tensors |= {f"basis.{name}": t for name, t in model.basis.state().items()}
    tensors["w_ref"] = model.w_ref
    save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, folder / TENSORS)
    record = {
        "schema": SCHEMA,
        "config": model.config.to_dict(),
        "generator_sha256": model.generator_sha256,
        "card": model.card,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2))
    (folder / CARD).write_text(_card_text(model))


def _card_text(model: MotionModel) -> str:
    config = model.config
    facts = {
        "latent space": config.latent_space,
        "basis": f"{model.basis.size} components, {model.basis.explained:.1%} of the variance",
        "frame rate": f"{config.frame_rate_hz:g} Hz",
        "training window": f"{config.window_frames} frames",
        "synthesis network": f"sha256 {model.generator_sha256}",
        **model.card,
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    table = "\n".join(["| | |", "|---|---|", *rows])
    source = "Made by svgan-ray, after StyleVideoGAN (arXiv 2107.07224)."
    return f"# Motion model\n\n{source}\n\n{table}\n\n{CONSENT}\n"
