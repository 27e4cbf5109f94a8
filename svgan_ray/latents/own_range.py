"""The range of a subject's own latents, and a limit that keeps another person's motion near that range.

The offset trick adds one person's motion to another person's latents. If this moves the latents beyond that
person's own footage, the generator was never trained there and deforms the face. So each direction of the
person's own motion has a range, which contains 99 % of the frames; values beyond it are limited along a
smooth curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis, fit_basis

__all__ = ["OwnRange", "own_range"]

_SHARE = 0.99
_ROOM = 0.25  # the largest distance beyond the range, as a share of the range's half width


@dataclass(frozen=True, eq=False)
class OwnRange:
    """Ranges of a subject's whitened coefficients, low and high [K], and of the remainder of the basis."""

    basis: LatentBasis
    low: Tensor
    high: Tensor
    remainder: float

    def hold_back(self, w_plus: Tensor) -> Tensor:
        """W+ [T, n, d] -> W+ that is unchanged inside the ranges, and smoothly limited beyond them."""
        coefficients = self.basis.project(w_plus)
        rest = (w_plus - self.basis.reconstruct(coefficients)).flatten(-2)
        length = rest.norm(dim=-1, keepdim=True)
        kept = _held(length, torch.tensor(0.0), torch.tensor(self.remainder)) / length.clamp(min=1e-12)
        held = self.basis.reconstruct(_held(coefficients, self.low, self.high))
        remainder: Tensor = (rest * kept).unflatten(-1, w_plus.shape[-2:])
        return held + remainder


def own_range(w_plus: Tensor, k: int) -> OwnRange:
    """The range of a subject's latents [T, n, d] in K directions. Raises DataError if they vary in fewer."""
    basis = fit_basis([w_plus], k)
    coefficients = basis.project(w_plus)
    edge = (1 - _SHARE) / 2
    low, high = torch.quantile(coefficients, torch.tensor([edge, 1 - edge], dtype=coefficients.dtype), dim=0)
    rest = (w_plus - basis.reconstruct(coefficients)).flatten(-2).norm(dim=-1)
    return OwnRange(basis, low, high, float(torch.quantile(rest, _SHARE)))


def _held(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x inside [low, high]; beyond it a tanh that starts with slope 1 and reaches `_ROOM` half widths."""
    room = _ROOM * (high - low) / 2
    room = room.clamp(min=torch.finfo(x.dtype).tiny)
    beyond = (x - high).clamp(min=0) + (x - low).clamp(max=0)
    return x.clamp(low, high) + room * torch.tanh(beyond / room)
