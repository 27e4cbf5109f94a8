"""The whole state of a fit in one safetensors file, from which the fit goes on as if it had never stopped.

The file is replaced atomically: if a process is killed while it writes, the previous file remains.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.files import written_whole
from svgan_ray.stylegan.fitting.config import FittingConfig
from svgan_ray.stylegan.fitting.fitter import Fitter
from svgan_ray.temporal.checkpoints import under

__all__ = ["load_checkpoint", "save_checkpoint"]

SCHEMA = 1


def save_checkpoint(fitter: Fitter, path: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write the state, replacing an older file; `extra` is the caller's JSON, given back on loading."""
    record = {
        "schema": SCHEMA,
        "step": fitter.step,
        "best_db": fitter.best_db,
        "config": fitter.config.to_dict(),
        "extra": extra or {},
    }
    with written_whole(path) as partial:
        save_file(_tensors(fitter), partial, metadata={"record": json.dumps(record)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())


def load_checkpoint(fitter: Fitter, path: str | Path) -> dict[str, Any]:
    """Put the state into a fitter of the same networks and settings; returns `extra`.

    On the same kind of machine, the fit then continues bit-equal to one that never stopped. Raises
    WeightsError if the file is not such a checkpoint, ConfigError if the settings differ.
    """
    record, tensors = _read(Path(path), fitter.device)
    _require_same(record["config"], fitter.config, Path(path))
    try:
        for name, module in fitter.modules().items():
            module.load_state_dict(under(tensors, name))
        for name, optimiser in fitter.optimisers().items():
            _load_moments(optimiser, under(tensors, f"{name}_moments"))
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{path}: the checkpoint is of other networks: {error}") from error
    fitter.step, fitter.best_db = record["step"], record["best_db"]
    extra: dict[str, Any] = record["extra"]
    return extra


def _tensors(fitter: Fitter) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for owner, module in fitter.modules().items():
        tensors |= {f"{owner}.{name}": t for name, t in module.state_dict().items()}
    for owner, optimiser in fitter.optimisers().items():
        for number, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"{owner}_moments.{number}.{name}": t for name, t in moments.items()}
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


def _load_moments(optimiser: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    """Load the moments that Adam would create at its first step, with each parameter's memory layout."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        like = parameters[int(number)]
        if tensor.shape == like.shape and key != "step":
            tensor = torch.empty_like(like).copy_(tensor)
        moments.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def _read(path: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            record = json.loads((file.metadata() or {}).get("record", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path}: no whole checkpoint of a fit: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise WeightsError(f"{path}: no checkpoint of a fit that this version reads (schema {SCHEMA})")
    return record, tensors


def _require_same(stored: dict[str, Any], config: FittingConfig, path: Path) -> None:
    now = dataclasses.asdict(config)
    changed = [
        f"{name}: {stored.get(name)} there, {value} here"
        for name, value in now.items()
        if stored.get(name) != value
    ]
    if changed:
        raise ConfigError(
            f"{path}: the checkpoint is of other settings ({'; '.join(changed)}); fit into another folder, "
            "or with the checkpoint's settings"
        )
