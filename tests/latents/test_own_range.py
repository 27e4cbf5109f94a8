"""Motion held back where somebody else never went."""

from __future__ import annotations

import torch
from torch import Tensor

from svgan_ray.latents.own_range import OwnRange, own_range


def latents(count: int = 2000) -> Tensor:
    """Two directions of motion, one twice as wide as the other, and a little of everything else."""
    draws = torch.Generator().manual_seed(0)
    moved = torch.rand(count, 2, generator=draws) * 2 - 1
    w_plus = 0.01 * torch.randn(count, 3, 4, generator=draws)
    w_plus[:, 0, 0] += 2 * moved[:, 0]
    w_plus[:, 2, 1] += moved[:, 1]
    return w_plus


def along(held: OwnRange, values: Tensor) -> Tensor:
    w_plus = torch.zeros(len(values), 3, 4)
    w_plus[:, 0, 0] = values
    return held.hold_back(w_plus)[:, 0, 0]


def test_inside_nothing_changes() -> None:
    w_plus = latents()
    held = own_range(w_plus, 2).hold_back(w_plus)
    changed = ((held - w_plus).abs().amax(dim=(1, 2)) > 1e-4).float().mean()
    assert changed < 0.04  # 1 % of each direction, and of the rest
    assert (held - w_plus).abs().max() < 0.1


def test_beyond_it_is_held_back_smoothly() -> None:
    values = torch.linspace(-6, 6, 4001)
    held = along(own_range(latents(), 2), values)
    slope = held.diff() / values.diff()
    assert (slope > -1e-3).all() and (slope < 1 + 1e-2).all()
    assert slope.diff().abs().max() < 0.02  # no corner
    assert 2.0 < held.max() < 2.6 and -2.6 < held.min() < -2.0
    torch.testing.assert_close(held[1500:2501], values[1500:2501], atol=1e-3, rtol=0)


def test_what_the_subject_never_does_is_nearly_gone() -> None:
    foreign = torch.zeros(1, 3, 4)
    foreign[0, 1, 3] = 5
    assert own_range(latents(), 2).hold_back(foreign).abs().max() < 0.1
