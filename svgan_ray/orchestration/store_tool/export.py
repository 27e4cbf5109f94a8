"""Clips of a snapshot as NumPy archives, for programs that know nothing of the store."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from svgan_ray.errors import ConfigError
from svgan_ray.latents.clips import ClipLatents
from svgan_ray.store import LatentStore, Snapshot
from svgan_ray.store.objects import OnProgress, unwatched, watched

__all__ = ["export_clips"]

INDEX = "clips.json"


def export_clips(
    store: LatentStore, snapshot: Snapshot, out: Path, on_progress: OnProgress = unwatched
) -> str:
    """Write `<clip id>.npz` for each clip, and clips.json, to a new folder, which appears whole.

    An archive holds w_plus [T, num_ws, w_dim] float32, time_s [T], quad [T, 4, 2], error [T] and
    interpolated [T]; a clip is in memory at a time. Raises ConfigError where the folder exists or cannot be
    written, ConflictError and CorruptObjectError as reading a snapshot does.
    """
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; name another folder")
    temporary = out.absolute().with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        for clip in watched(store.snapshot_clips(snapshot), on_progress, len(snapshot.clips)):
            np.savez(temporary / f"{clip.clip_id}.npz", **_arrays(clip))
        (temporary / INDEX).write_text(json.dumps(_index(snapshot), indent=2) + "\n", "utf-8")
        temporary.rename(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return f"{len(snapshot.clips):,} clips, {snapshot.frames:,} frames in {out}/"


def _arrays(clip: ClipLatents) -> dict[str, Any]:
    return {
        "w_plus": clip.w_plus.numpy(),
        "time_s": clip.time_s.numpy(),
        "quad": clip.quad.numpy(),
        "error": clip.error.numpy(),
        "interpolated": clip.interpolated.numpy(),
    }


def _index(snapshot: Snapshot) -> dict[str, object]:
    return {
        "snapshot": f"{snapshot.name}@{snapshot.generation}",
        "digest": snapshot.digest,
        "inversion_id": snapshot.inversion_id,
        "generator_sha256": snapshot.generator_sha256,
        "clips": [
            {
                "file": f"{clip.clip_id}.npz",
                "subject": clip.subject,
                "frames": clip.frames,
                "frame_rate_hz": clip.frame_rate_hz,
            }
            for clip in snapshot.clips
        ],
    }
