"""What the networks see of a snapshot: resampled, projected onto the subject's basis, kept in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis, fit_basis
from svgan_ray.latents.clips import resample
from svgan_ray.latents.windows import WindowIndex, valid_segments
from svgan_ray.store import LatentStore, Snapshot
from svgan_ray.store.keys import content_id
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.training import represent

__all__ = ["TrainingSet", "resampled_clips", "training_set"]

_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """All frames of a snapshot at the recipe's frame rate, clip after clip."""

    basis: LatentBasis
    coefficients: Tensor  # [F, K] in the basis, whatever the recipe's head
    features: Tensor  # [F, K or n*d], what the networks see
    segments: tuple[tuple[int, int], ...]  # spans of valid frames, each within one clip

    def index(self, window_frames: int) -> WindowIndex:
        """Where windows start. Raises DataError where none fits."""
        return WindowIndex(self.segments, window_frames)


def training_set(store: LatentStore, snapshot: Snapshot, config: TemporalConfig) -> TrainingSet:
    """Read the training set from the store, where the first one to need it leaves basis and coefficients.

    Raises DataError where the basis would be larger than the rank of the data.
    """
    key = {
        "snapshot": snapshot.digest,
        "frame_rate_hz": config.frame_rate_hz,
        "basis_size": config.basis_size,
    }
    basis_id = content_id({**key, "schema": _SCHEMA})
    tensors = store.get_basis(basis_id) or store.put_basis(basis_id, _projected(store, snapshot, config))
    basis = LatentBasis.from_state(tensors)
    coefficients = tensors["coefficients"]
    features = coefficients
    if config.head == "w_plus":
        clips = resampled_clips(store, snapshot, config.frame_rate_hz)
        features = torch.cat([represent(config, basis, w_plus) for w_plus, _ in clips])
    segments = tuple((first, stop) for first, stop in tensors["segments"].tolist())
    return TrainingSet(basis, coefficients, features, segments)


def resampled_clips(
    store: LatentStore, snapshot: Snapshot, frame_rate_hz: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """W+ [T, n, d] and valid [T] of each clip, one clip in memory at a time."""
    return (resample(clip, frame_rate_hz) for clip in store.snapshot_clips(snapshot))


def _projected(store: LatentStore, snapshot: Snapshot, config: TemporalConfig) -> dict[str, Tensor]:
    rate_hz = config.frame_rate_hz
    seen = (w_plus[valid] for w_plus, valid in resampled_clips(store, snapshot, rate_hz))
    basis = fit_basis(seen, config.basis_size)
    coefficients, masks = [], []
    for w_plus, valid in resampled_clips(store, snapshot, rate_hz):
        coefficients.append(basis.project(w_plus))
        masks.append(valid)
    segments = torch.tensor(valid_segments(masks), dtype=torch.int64).reshape(-1, 2)
    return {**basis.state(), "coefficients": torch.cat(coefficients), "segments": segments}
