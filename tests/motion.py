"""Latents for tests: smooth motion in a few directions of W+, committed as an inversion leaves it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from svgan_ray.store import CommitRecord, LatentStore, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.weights import weights_folders, weights_hash
from svgan_ray.temporal.recipes import (
    CriticOptions,
    GeneratorOptions,
    LossOptions,
    OptimiserOptions,
    TemporalConfig,
)

NUM_WS, W_DIM = 8, 16  # of the networks in tests/footage.py
INVERSION = "inversion-1"


def motion(frames: int, seed: int = 0, directions: int = 20) -> Tensor:
    """W+ [frames, 8, 16]: waves of random frequency along fixed random directions."""
    axes = torch.randn(directions, NUM_WS * W_DIM, generator=torch.Generator().manual_seed(1))
    random = torch.Generator().manual_seed(seed)
    frequency_hz, phase = (
        torch.rand(directions, generator=random) * 2,
        torch.rand(directions, generator=random),
    )
    time_s = torch.arange(frames)[:, None] / 25
    course = torch.cos(6.28 * (time_s * frequency_hz + phase)) / torch.arange(1, directions + 1)
    return (0.1 * course @ axes).view(frames, NUM_WS, W_DIM)


def put_clip(
    store: LatentStore,
    subject: str,
    w_plus: Tensor,
    generator_sha256: str,
    inversion_id: str = INVERSION,
    mean_error: float | None = 0.1,
) -> str:
    """Commit one clip at 25 frames a second; returns its id."""
    frames = len(w_plus)
    clip_id = content_id({"subject": subject, "sum": float(w_plus.sum()), "frames": frames})
    tensors = {
        "w_plus": w_plus,
        "quad": torch.zeros(frames, 4, 2),
        "time_s": torch.arange(frames, dtype=torch.float64) / 25,
        "error": torch.full((frames,), torch.nan),
        "interpolated": torch.zeros(frames, dtype=torch.bool),
    }
    chunk = store.put_chunk(inversion_id, clip_id, 0, tensors)
    record = CommitRecord(
        inversion_id=inversion_id,
        clip_id=clip_id,
        tracking_id="tracking-1",
        video_id="0" * 64,
        subject=subject,
        first_frame=0,
        stop_frame=frames,
        frame_rate_hz=25.0,
        num_ws=w_plus.shape[1],
        w_dim=w_plus.shape[2],
        generator_sha256=generator_sha256,
        encoder_sha256="e" * 64,
        chunks=(chunk,),
        mean_error=mean_error,
        node="test",
    )
    assert store.commit(record)
    return clip_id


def make_store(
    uri: str | Path, weights: Path, subjects: int = 1, clips: int = 2, frames: int = 500
) -> LatentStore:
    """A store with clips of subject-1, subject-2, ..."""
    store = open_store(uri, create=True)
    sha256 = weights_hash(weights_folders(weights)[0])
    for number in range(1, subjects + 1):
        for clip in range(clips):
            put_clip(store, f"subject-{number}", motion(frames, 10 * number + clip), sha256)
    return store


def tiny(steps: int = 40, **changes: object) -> TemporalConfig:
    """A temporal GAN that takes milliseconds a step."""
    values: dict[str, object] = {
        "basis_size": 16,
        "window_frames": 12,
        "batch_size": 4,
        "steps": steps,
        "generator": GeneratorOptions(
            noise_dim=8, layers=1, width=16, initial_widths=(16,), output_widths=(16,)
        ),
        "critic": CriticOptions(frame_widths=(16,), time_widths=(16,)),
        "loss": LossOptions(critic_penalty_weight=10.0, angle_penalty_weight=1.0),
        "optimiser": OptimiserOptions(1e-3, 1e-3),
    }
    return TemporalConfig(**{**values, **changes})  # type: ignore[arg-type]
