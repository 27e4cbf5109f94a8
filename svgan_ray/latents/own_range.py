"""How far a subject's latents go by themselves, and others' motion held back to it.

The offset trick adds one person's motion to another's latents. Where it takes them further than that other
person ever went, the generator has seen nothing and deforms the face. Here each direction of the other's own
motion has a range, which 99 % of the frames stay in; what goes beyond it is held back along a smooth curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis, fit_basis

__all__ = ["OwnRange", "own_range"]

_SHARE = 0.99
_ROOM = 0.25  # how far beyond the range the curve leads at most, over the range's half width


@dataclass(frozen=True, eq=False)
class OwnRange:
    """Ranges of a subject's whitened coefficients, low and high [K], and of what the basis leaves over."""

    basis: LatentBasis
    low: Tensor
    high: Tensor
    remainder: float

    def hold_back(self, w_plus: Tensor) -> Tensor:
        """W+ [T, n, d] -> the same inside the ranges, and smoothly less of what goes beyond them."""
        coefficients = self.basis.project(w_plus)
        rest = (w_plus - self.basis.reconstruct(coefficients)).flatten(-2)
        length = rest.norm(dim=-1, keepdim=True)
        kept = _held(length, torch.tensor(0.0), torch.tensor(self.remainder)) / length.clamp(min=1e-12)
        held = self.basis.reconstruct(_held(coefficients, self.low, self.high))
        remainder: Tensor = (rest * kept).unflatten(-1, w_plus.shape[-2:])
        return held + remainder


def own_range(w_plus: Tensor, k: int) -> OwnRange:
    """The range of a subject's latents [T, n, d], in K directions. Raises DataError where there are fewer."""
    basis = fit_basis([w_plus], k)
    coefficients = basis.project(w_plus)
    edge = (1 - _SHARE) / 2
    low, high = torch.quantile(coefficients, torch.tensor([edge, 1 - edge], dtype=coefficients.dtype), dim=0)
    rest = (w_plus - basis.reconstruct(coefficients)).flatten(-2).norm(dim=-1)
    return OwnRange(basis, low, high, float(torch.quantile(rest, _SHARE)))


def _held(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x inside [low, high]; beyond it a tanh that starts with slope one and ends `_ROOM` half widths on."""
    room = _ROOM * (high - low) / 2
    room = room.clamp(min=torch.finfo(x.dtype).tiny)
    beyond = (x - high).clamp(min=0) + (x - low).clamp(max=0)
    return x.clamp(low, high) + room * torch.tanh(beyond / room)
