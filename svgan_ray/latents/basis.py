"""A subject's linear motion space: mean, principal components and standard deviations of its W+."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.errors import DataError

__all__ = ["LatentBasis", "Moments", "fit_basis", "moments_of"]

# A component whose variance is below this share of the largest variance is rounding error, not motion.
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class LatentBasis:
    """W+ = mean + (c * sigma) C, with whitened coefficients c.

    `explained` is the share of the variance that the K components keep.
    """

    mean: Tensor  # [n, d]
    components: Tensor  # [K, n*d], orthonormal rows, largest variance first
    sigma: Tensor  # [K]
    explained: float

    @property
    def num_ws(self) -> int:
        return self.mean.shape[0]

    @property
    def w_dim(self) -> int:
        return self.mean.shape[1]

    @property
    def size(self) -> int:
        """K, the number of components."""
        return self.sigma.shape[0]

    def project(self, w_plus: Tensor) -> Tensor:
        """W+ [..., n, d] to whitened coefficients [..., K]."""
        if w_plus.shape[-2:] != self.mean.shape:
            raise DataError(
                f"latents of shape [..., {w_plus.shape[-2]}, {w_plus.shape[-1]}] do not fit a basis of "
                f"[{self.num_ws}, {self.w_dim}]: they come from another generator. Fit a basis to them."
            )
        coefficients: Tensor = (w_plus - self.mean).flatten(-2) @ self.components.T / self.sigma
        return coefficients

    def reconstruct(self, coefficients: Tensor) -> Tensor:
        """Whitened coefficients [..., K] to W+ [..., n, d]."""
        offset: Tensor = (coefficients * self.sigma) @ self.components
        w_plus: Tensor = self.mean + offset.unflatten(-1, self.mean.shape)
        return w_plus

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LatentBasis:
        mean, components, sigma = (x.to(device, dtype) for x in (self.mean, self.components, self.sigma))
        return LatentBasis(mean, components, sigma, self.explained)

    def state(self) -> dict[str, Tensor]:
        """Tensors to save; `from_state` is the inverse."""
        explained = torch.tensor(self.explained, dtype=torch.float64)
        return {"mean": self.mean, "components": self.components, "sigma": self.sigma, "explained": explained}

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> LatentBasis:
        return LatentBasis(state["mean"], state["components"], state["sigma"], float(state["explained"]))


def fit_basis(batches: Iterable[Tensor], k: int) -> LatentBasis:
    """Principal components of W+ batches [T, n, d]; each batch is read once, and one is in memory at a time.

    Raises DataError if there are no frames or fewer than `k` directions in which they vary.
    """
    moments = moments_of(batches)
    if moments is None:
        raise DataError("no latent frames to fit a basis to: the snapshot is empty. Invert footage first.")
    return moments.basis(k)


def moments_of(batches: Iterable[Tensor]) -> Moments | None:
    """The moments of W+ batches [T, n, d], from which a basis is computed; None if there is no frame."""
    moments: Moments | None = None
    for batch in batches:
        if batch.shape[0] == 0:
            continue
        if moments is None:
            moments = Moments(batch)
        moments.add(batch)
    return moments


class Moments:
    """Sums of W+ and of its outer products.

    The sums are taken in float64 about the first batch's mean, which keeps the covariance exact where the
    mean is large. They take (n*d)^2 float64 of memory for any number of frames. The moments of parts of the
    footage can be merged into the moments of all of it.
    """

    def __init__(self, first: Tensor) -> None:
        self.shape = first.shape[1:]
        self.origin = first.double().flatten(1).mean(0)  # [n*d]
        features = self.origin.shape[0]
        self.frames = 0
        self.sum = torch.zeros_like(self.origin)
        self.outer = torch.zeros(features, features, dtype=torch.float64, device=first.device)

    def add(self, batch: Tensor) -> None:
        if batch.shape[1:] != self.shape:
            raise DataError(
                f"latents of shape {tuple(batch.shape[1:])} among latents of shape {tuple(self.shape)}: "
                "one basis needs latents of one generator."
            )
        centred = batch.double().flatten(1) - self.origin
        self.frames += centred.shape[0]
        self.sum += centred.sum(0)
        self.outer.addmm_(centred.T, centred)

    def merge(self, other: Moments) -> None:
        """Add the frames of other moments to these."""
        if other.shape != self.shape:
            raise DataError(
                f"latents of shape {tuple(other.shape)} among latents of shape {tuple(self.shape)}: "
                "one basis needs latents of one generator."
            )
        apart = other.origin - self.origin  # [n*d]
        cross = torch.outer(apart, other.sum)
        self.outer += other.outer + cross + cross.T + other.frames * torch.outer(apart, apart)
        self.sum += other.sum + other.frames * apart
        self.frames += other.frames

    def basis(self, k: int) -> LatentBasis:
        """The K principal components. Raises DataError if the frames vary in fewer directions."""
        mean = self.sum / self.frames
        covariance = (self.outer / self.frames).sub_(torch.outer(mean, mean))
        variance, vectors = torch.linalg.eigh(covariance)
        variance, vectors = variance.flip(0).clamp(min=0), vectors.flip(1)
        rank = min(int((variance > RANK_TOLERANCE * variance[0]).sum()), self.frames - 1)
        if k > rank:
            raise DataError(
                f"a basis of {k} components was asked of {self.frames} frames that vary in {max(rank, 0)} "
                f"directions. Set basis_size to at most {max(rank, 0)}, or add footage."
            )
        return LatentBasis(
            mean=(self.origin + mean).view(self.shape).float(),
            components=_fix_signs(vectors[:, :k].T).float(),
            sigma=variance[:k].sqrt().float(),
            explained=float(variance[:k].sum() / variance.sum()),
        )


def _fix_signs(components: Tensor) -> Tensor:
    """Make each row's largest entry positive, because an eigenvector's sign is arbitrary."""
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return components * largest.sign()
