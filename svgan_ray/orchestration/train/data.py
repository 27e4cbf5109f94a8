"""The training set of a snapshot: resampled, projected onto the subject's basis, cached in the store."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ray
import torch
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.latents.basis import LatentBasis, Moments, moments_of
from svgan_ray.latents.clips import resample
from svgan_ray.latents.denoising import denoised
from svgan_ray.latents.windows import WindowIndex, valid_segments
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.store import LatentStore, Snapshot, SnapshotClip, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.training import represent

__all__ = ["TrainingSet", "resampled_clips", "training_set"]

_SCHEMA = 1
PART_FRAMES = 20_000
"""Frames that one task reads of a large snapshot: about a quarter of an hour of footage."""
MOST_PARTS = 16
"""The most parts; each takes (n*d)^2 float64 until it is merged, which is 680 MB at 1024 px."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """All frames of a snapshot at the recipe's frame rate, clip after clip."""

    basis: LatentBasis
    coefficients: Tensor  # [F, K] in the basis, in every latent space; denoised if the recipe asks for that
    features: Tensor  # [F, K or n*d], what the networks see
    segments: tuple[tuple[int, int], ...]  # spans of valid frames, each within one clip

    def index(self, window_frames: int) -> WindowIndex:
        """The starts of windows. Raises DataError if no window fits."""
        return WindowIndex(self.segments, window_frames)


def training_set(store: LatentStore, snapshot: Snapshot, config: TemporalConfig) -> TrainingSet:
    """Read the training set from the store; the first job that needs it computes and stores it there.

    Raises DataError if the basis would be larger than the rank of the data.
    """
    key = {
        "snapshot": snapshot.digest,
        "frame_rate_hz": config.frame_rate_hz,
        "basis_size": config.basis_size,
        "denoise": config.denoise,
    }
    basis_id = content_id({**key, "schema": _SCHEMA})
    tensors = store.get_basis(basis_id) or store.put_basis(basis_id, _projected(store, snapshot, config))
    basis = LatentBasis.from_state(tensors)
    coefficients = tensors["coefficients"]
    features = coefficients
    if config.latent_space == "w_plus":
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
    """Basis, coefficients and segments; of a large snapshot in parallel, part by part."""
    parts = _parts(snapshot)
    if len(parts) <= 1:
        moments = _moments(store.uri, snapshot, config.frame_rate_hz)
        basis = _basis(moments, config)
        projections = [_projection(store.uri, snapshot, config.frame_rate_hz, basis)]
    else:
        with connect():
            basis = _basis(_merged_moments(store.uri, parts, config.frame_rate_hz), config)
            project, shared = ray.remote(_projection), ray.put(basis)
            rate_hz = config.frame_rate_hz
            projections = ray.get([project.remote(store.uri, part, rate_hz, shared) for part in parts])
    coefficients = torch.cat([part for part, _ in projections])
    masks = [mask for _, masks in projections for mask in masks]
    spans = valid_segments(masks)
    if config.denoise:
        motion = denoised([coefficients[first:stop] for first, stop in spans], config.frame_rate_hz)
        for (first, stop), span in zip(spans, motion, strict=True):
            coefficients[first:stop] = span
    segments = torch.tensor(spans, dtype=torch.int64).reshape(-1, 2)
    return {**basis.state(), "coefficients": coefficients, "segments": segments}


def _parts(snapshot: Snapshot) -> list[Snapshot]:
    """Groups of consecutive clips with about equally many frames, one group for each task."""
    frames = sum(clip.frames for clip in snapshot.clips)
    count = min(MOST_PARTS, max(1, round(frames / PART_FRAMES)))
    parts: list[list[SnapshotClip]] = [[] for _ in range(count)]
    done = 0
    for clip in snapshot.clips:
        parts[min(done * count // frames, count - 1)].append(clip)
        done += clip.frames
    return [dataclasses.replace(snapshot, clips=tuple(clips)) for clips in parts if clips]


def _merged_moments(store: str, parts: Sequence[Snapshot], rate_hz: float) -> Moments | None:
    """The moments of all parts, each merged as it becomes ready, so that few are in memory at once."""
    task = ray.remote(_moments)
    pending, total = [task.remote(store, part, rate_hz) for part in parts], None
    while pending:
        (ready,), pending = ray.wait(pending, num_returns=1)
        moments: Moments | None = copy.deepcopy(ray.get(ready))  # objects from Ray are read-only
        if total is None:
            total = moments
        elif moments is not None:
            total.merge(moments)
    return total


def _moments(store: str, part: Snapshot, rate_hz: float) -> Moments | None:
    clips = resampled_clips(open_store(store), part, rate_hz)
    return moments_of(w_plus[valid] for w_plus, valid in clips)


def _basis(moments: Moments | None, config: TemporalConfig) -> LatentBasis:
    if moments is None:
        raise DataError("no latent frames to fit a basis to: the snapshot is empty. Invert footage first.")
    return moments.basis(config.basis_size)


def _projection(
    store: str, part: Snapshot, rate_hz: float, basis: LatentBasis
) -> tuple[Tensor, list[Tensor]]:
    """Coefficients [F, K] of a part's clips, one after the other, and which frames of each are valid."""
    clips = [(basis.project(w), valid) for w, valid in resampled_clips(open_store(store), part, rate_hz)]
    return torch.cat([coefficients for coefficients, _ in clips]), [valid for _, valid in clips]
