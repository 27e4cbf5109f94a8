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
from svgan_ray.latents.windows import seeded
from svgan_ray.temporal.checkpoints import under
from svgan_ray.temporal.generator import TemporalGenerator
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.statistics import MomentStatistics
from svgan_ray.temporal.training import TrainingState, build_generator, restore

__all__ = ["MotionModel", "load_model", "model_of", "save_model"]

SCHEMA = 1
TENSORS, RECORD, CARD = "model.safetensors", "model.json", "README.md"

_MEASURED_SAMPLES, _MEASURED_FRAMES = 128, 512
_MOST = 1.1
"""The largest correction; a generator that needs more has not learnt the motion, which must not be hidden."""

CONSENT = (
    "The motion of this model was learned from footage of a person. Having that person's consent, and "
    "marking what is made with it as synthetic, is up to whoever uses it."
)


@dataclass(frozen=True)
class MotionModel:
    """The averaged generator and everything that is needed to turn its output into W+."""

    config: TemporalConfig
    generator: TemporalGenerator  # eval mode, no gradients
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
    """The model of a training state; later training steps do not change it.

    A trained generator's motion is a few hundredths smaller than the footage's. Where training knows the
    footage's moments and the difference is small, the motion is scaled up to the footage's size.
    """
    generator = build_generator(state.config, state.basis.num_ws, state.basis.w_dim)
    generator.load_state_dict(state.ema.state_dict())
    generator.eval().requires_grad_(False)
    if state.moments is not None and state.step > 0:
        generator.amplify(_missing_amplitude(generator, state.config, state.moments))
    card = {"steps": state.step, **(card or {})}
    return MotionModel(state.config, generator, state.basis.to("cpu"), w_ref.cpu(), generator_sha256, card)


@torch.no_grad()
def _missing_amplitude(
    generator: TemporalGenerator, config: TemporalConfig, moments: MomentStatistics
) -> float:
    """The factor that gives the motion the footage's variance, taken over all coefficients together."""
    random, options = seeded("amplitude", config.seed), config.generator
    noise = torch.randn(_MEASURED_SAMPLES, _MEASURED_FRAMES, options.noise_dim, generator=random)
    motion, _ = generator(noise)
    variance = motion[:, options.warm_up_frames :].flatten(0, 1).var(0).sum()
    return float((moments.footage_variance.sum().cpu() / variance).sqrt().clamp(1 / _MOST, _MOST))


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
