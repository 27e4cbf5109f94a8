"""Small records and tensors for tests of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from svgan_ray.store import (
    ChunkRef,
    ClipRecord,
    CommitRecord,
    FailureRecord,
    LatentStore,
    SkippedRecord,
    TrackRecord,
)
from svgan_ray.store.keys import clip_id

NUM_WS, W_DIM = 4, 8
VIDEO = "ab" * 32
TRACKING = "cd" * 16
INVERSION = "ef" * 16
CLIP = clip_id(VIDEO, TRACKING, 0, 6)
GENERATOR, ENCODER = "01" * 32, "23" * 32


def chunk_tensors(first: int = 0, frames: int = 3, variant: int = 0) -> dict[str, Tensor]:
    """Latents of frames [first, first + frames); each variant differs by a little."""
    generator = torch.Generator().manual_seed(1000 + first)
    return {
        "w_plus": torch.randn(frames, NUM_WS, W_DIM, generator=generator) + variant * 1e-3,
        "quad": torch.randn(frames, 4, 2, generator=generator),
        "time_s": torch.arange(first, first + frames, dtype=torch.float64) / 25,
        "error": torch.tensor([0.25] + [float("nan")] * (frames - 1)),
        "interpolated": torch.zeros(frames, dtype=torch.bool),
    }


def commit_record(chunks: Sequence[ChunkRef], clip: str = CLIP, node: str = "node-a") -> CommitRecord:
    return CommitRecord(
        inversion_id=INVERSION,
        clip_id=clip,
        tracking_id=TRACKING,
        video_id=VIDEO,
        subject="anna",
        first_frame=0,
        stop_frame=sum(chunk.frames for chunk in chunks),
        frame_rate_hz=25.0,
        num_ws=NUM_WS,
        w_dim=W_DIM,
        generator_sha256=GENERATOR,
        encoder_sha256=ENCODER,
        chunks=tuple(chunks),
        mean_error=0.25,
        node=node,
    )


def put_chunks(store: LatentStore, clip: str = CLIP, variant: int = 0) -> list[ChunkRef]:
    return [store.put_chunk(INVERSION, clip, n, chunk_tensors(3 * n, 3, variant)) for n in range(2)]


def put_clip(store: LatentStore, clip: str = CLIP, subject: str = "anna") -> CommitRecord:
    record = replace(commit_record(put_chunks(store, clip), clip), subject=subject)
    assert store.commit(record)
    return record


def track_record(clips: tuple[ClipRecord, ...] = (ClipRecord(CLIP, 0, 6),)) -> TrackRecord:
    return TrackRecord(
        tracking_id=TRACKING,
        video_id=VIDEO,
        uri="/footage/anna.mp4",
        subject="anna",
        decoder="decord",
        frame_count=8,
        frame_rate_hz=25.0,
        width=640,
        height=360,
        clips=clips,
        skipped=(SkippedRecord(6, 8, "no_face"),),
        parameters={"centre_sigma_s": 0.04, "source": "sidecar"},
    )


def track_tensors(shift: float = 0.0) -> dict[str, Tensor]:
    return {
        f"{CLIP}.quad": torch.full((6, 4, 2), shift),
        f"{CLIP}.interpolated": torch.zeros(6, dtype=torch.bool),
    }


def track_landmarks(shift: float = 0.0) -> dict[str, Tensor]:
    return {f"{CLIP}.landmarks": torch.full((6, 68, 2), shift)}


def failure_record(item: str = CLIP, attempts: int = 1) -> FailureRecord:
    return FailureRecord(
        item, "/footage/anna.mp4", "encode", "worker_died", "the worker was killed", attempts
    )
