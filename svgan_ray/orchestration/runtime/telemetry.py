"""The metrics of jobs for Prometheus; Ray's endpoint on every machine exports them as `ray_svgan_...`.

Every process counts for itself. Nothing is exported without Ray. docs/monitoring.md lists the metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ray.util.metrics import Counter, Gauge

from svgan_ray.runs.drain import watch_depth
from svgan_ray.store.retries import watch_retries

__all__ = ["clip_ended", "frames_inverted", "timed", "training_speed"]

_FRAMES = Counter("svgan_frames_inverted", "Frames whose latents were made and stored")
_CLIPS = Counter(
    "svgan_clips", "Clips, and videos without one, by what became of them", ("outcome", "reason")
)
_STAGE_S = Counter("svgan_stage_seconds", "Time spent in a stage of inversion", ("stage",))
_S3_RETRIES = Counter("svgan_s3_retries", "Requests to S3 that had to be repeated")
_SPOOL_BYTES = Gauge("svgan_spool_bytes", "Events of a run that MLflow has not taken yet", ("run",))
_SPEED = Gauge("svgan_sequences_per_s", "Sequences that a training sees a second", ("run",))


def frames_inverted(frames: int) -> None:
    """Count the frames of a block that were encoded and stored."""
    _FRAMES.inc(frames)


def clip_ended(outcome: Literal["committed", "failed"], reason: str = "") -> None:
    """Count a committed clip, or a clip or video that failed with a reason of the failure records."""
    _CLIPS.inc(1, {"outcome": outcome, "reason": reason})


@contextmanager
def timed(stage: Literal["decode", "encode"]) -> Iterator[None]:
    """Add the time that the block takes. It includes the GPU's work if the block waits for its results."""
    began_s = time.monotonic()
    try:
        yield
    finally:
        _STAGE_S.inc(max(time.monotonic() - began_s, 1e-9), {"stage": stage})


def training_speed(run: str, sequences_per_s: float) -> None:
    """Report the current speed of a training."""
    _SPEED.set(sequences_per_s, {"run": run})


watch_retries(_S3_RETRIES.inc)
watch_depth(lambda run, size_bytes: _SPOOL_BYTES.set(size_bytes, {"run": run}))
