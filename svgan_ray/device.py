"""The device that this process computes on."""

from __future__ import annotations

import torch

__all__ = ["best_device"]


def best_device() -> torch.device:
    """The first GPU that this process sees, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
