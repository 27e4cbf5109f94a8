"""Optimisers whose steps a CUDA graph can record, and their learning rates."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["optimiser_of", "set_rate"]

Optimiser = TypeVar("Optimiser", bound=torch.optim.Adam)


def optimiser_of(
    kind: type[Optimiser],
    module: nn.Module,
    learning_rate: float,
    betas: tuple[float, float],
    **options: Any,
) -> Optimiser:
    """An optimiser of a module; on a GPU, recorded steps need its learning rate and step count there."""
    device = next(module.parameters()).device
    recorded = device.type == "cuda"
    return kind(
        module.parameters(),
        lr=torch.tensor(learning_rate, device=device) if recorded else learning_rate,
        betas=betas,
        fused=True,
        capturable=recorded,
        **options,
    )


def set_rate(optimiser: torch.optim.Adam, learning_rate: float) -> None:
    """Set the learning rate, in place if it lies on a GPU, where recorded steps read it."""
    (group,) = optimiser.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(learning_rate)
    else:
        group["lr"] = learning_rate
