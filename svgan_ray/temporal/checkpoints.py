"""Checkpoints of a training: safetensors and JSON from which training goes on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.files import write_whole
from svgan_ray.latents.basis import LatentBasis
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.training import TrainingState, new_state
from svgan_ray.temporal.workers import ALONE, Workers

__all__ = ["load_checkpoint", "save_checkpoint", "under"]

SCHEMA = 1
TENSORS, RECORD = "checkpoint.safetensors", "checkpoint.json"


def save_checkpoint(state: TrainingState, folder: str | Path) -> None:
    """Write the whole state into `folder`, which is created if it does not exist.

    The record is removed first and written last, so a folder that has a record is complete.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    save_file({name: t.contiguous().cpu() for name, t in _tensors(state).items()}, folder / TENSORS)
    record = {"schema": SCHEMA, "step": state.step, "config": state.config.to_dict()}
    write_whole(folder / RECORD, json.dumps(record, indent=2))


def load_checkpoint(
    folder: str | Path,
    device: torch.device | str = "cpu",
    workers: Workers = ALONE,
    config: TemporalConfig | None = None,
) -> TrainingState:
    """The state that `save_checkpoint` wrote; training goes on from it to the same bits as without a stop.

    `config` is the configuration that the caller wants to train with. It may differ from the stored one in
    the number of steps only. Raises ConfigError if it differs in anything else, and WeightsError if the
    folder holds no complete checkpoint.
    """
    folder = Path(folder)
    record, tensors = _read(folder)
    stored = TemporalConfig.from_dict(record["config"])
    if config is not None:
        _require_same(stored, config, folder)
        stored = config
    basis = LatentBasis.from_state(under(tensors, "basis")).to(device)
    dtype = next(t.dtype for name, t in tensors.items() if name.startswith("generator."))
    state = new_state(stored, basis, device, workers, dtype)
    for name, module in state.modules().items():
        module.load_state_dict(under(tensors, name))
    for name, optimiser in state.optimisers().items():
        _load_moments(optimiser, under(tensors, name))
    state.step = record["step"]
    return state


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"basis.{name}": t for name, t in state.basis.state().items()}
    for owner, module in state.modules().items():
        tensors |= {f"{owner}.{name}": t for name, t in module.state_dict().items()}
    for owner, optimiser in state.optimisers().items():
        for number, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"{owner}.{number}.{name}": t for name, t in moments.items()}
    return tensors


def _load_moments(optimiser: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        moments.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def under(tensors: dict[str, Tensor], owner: str) -> dict[str, Tensor]:
    """The tensors named `<owner>.<name>`, by name."""
    prefix = f"{owner}."
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        record = json.loads((folder / RECORD).read_text())
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no whole checkpoint: {error}") from error
    if record.get("schema") != SCHEMA:
        raise WeightsError(
            f"{folder / RECORD} has schema {record.get('schema')}, this version reads {SCHEMA}"
        )
    return record, tensors


def _require_same(stored: TemporalConfig, wanted: TemporalConfig, folder: Path) -> None:
    before, now = (dataclasses.asdict(c) for c in (dataclasses.replace(stored, steps=wanted.steps), wanted))
    changed = [f"{name}: {before[name]} there, {now[name]} here" for name in now if before[name] != now[name]]
    if changed:
        raise ConfigError(
            f"the checkpoint in {folder} is of another configuration ({'; '.join(changed)}). "
            "Train under another name, or with the checkpoint's configuration."
        )
