"""Exports clips of a snapshot for programs that cannot read the store, as NumPy, Parquet or WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from svgan_ray.errors import ConfigError
from svgan_ray.files import written_whole_folder
from svgan_ray.latents.clips import ClipLatents
from svgan_ray.store import LatentStore, Snapshot, SnapshotClip
from svgan_ray.store.objects import OnProgress, unwatched, watched

__all__ = ["ExportFormat", "export_clips"]

ExportFormat = Literal["npz", "parquet", "webdataset"]

INDEX = "clips.json"
SHARD_BYTES = 512 * 2**20
"""A WebDataset shard is closed when it holds this many bytes."""


def export_clips(
    store: LatentStore,
    snapshot: Snapshot,
    out: Path,
    on_progress: OnProgress = unwatched,
    export_format: ExportFormat = "npz",
) -> str:
    """Write a snapshot's clips and `clips.json` to a new folder, which appears whole.

    `npz` writes `<clip id>.npz` for each clip, with w_plus [T, num_ws, w_dim] float32, time_s [T], quad [T,
    4, 2], error [T] and interpolated [T]. `parquet` writes `latents.parquet` with a row per frame and a row
    group per clip. `webdataset` writes `shard-000000.tar` and so on, whose samples are those archives, each
    with a `.json` beside it. One clip is in memory at a time.

    Raises ConfigError if the folder exists or cannot be written, ConflictError and CorruptObjectError as
    reading a snapshot does.
    """
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; name another folder")
    try:
        with written_whole_folder(out) as folder:
            clips = watched(store.snapshot_clips(snapshot), on_progress, len(snapshot.clips))
            _WRITERS[export_format](folder, snapshot, zip(snapshot.clips, clips, strict=True))
            (folder / INDEX).write_text(json.dumps(_index(snapshot, export_format), indent=2) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
    return f"{len(snapshot.clips):,} clips, {snapshot.frames:,} frames in {out}/"


Clips = Iterator[tuple[SnapshotClip, ClipLatents]]


def _write_archives(folder: Path, snapshot: Snapshot, clips: Clips) -> None:
    for clip, latents in clips:
        np.savez(folder / f"{clip.clip_id}.npz", **_arrays(latents))


def _write_parquet(folder: Path, snapshot: Snapshot, clips: Clips) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("clip_id", pa.string()),
            ("subject", pa.string()),
            ("frame", pa.int64()),
            ("time_s", pa.float64()),
            ("w_plus", pa.list_(pa.float32(), snapshot.num_ws * snapshot.w_dim)),
            ("quad", pa.list_(pa.float32(), 8)),
            ("error", pa.float32()),
            ("interpolated", pa.bool_()),
        ],
        {"num_ws": str(snapshot.num_ws), "w_dim": str(snapshot.w_dim)},
    )
    with pq.ParquetWriter(folder / "latents.parquet", schema, compression="zstd") as writer:
        for clip, latents in clips:
            arrays, frames = _arrays(latents), latents.frames
            columns = {
                "clip_id": [clip.clip_id] * frames,
                "subject": [clip.subject] * frames,
                "frame": np.arange(frames),
                "time_s": arrays["time_s"],
                "w_plus": _fixed_lists(arrays["w_plus"]),
                "quad": _fixed_lists(arrays["quad"]),
                "error": arrays["error"],
                "interpolated": arrays["interpolated"],
            }
            writer.write_table(pa.table(columns, schema), row_group_size=frames)


def _fixed_lists(values: Any) -> Any:
    """An array [T, ...] as one fixed-size list per frame."""
    import pyarrow as pa

    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def _write_shards(folder: Path, snapshot: Snapshot, clips: Clips) -> None:
    first, number = next(clips, None), 0
    while first is not None:
        with tarfile.open(folder / f"shard-{number:06d}.tar", "w") as shard:
            size_bytes = _add_sample(shard, snapshot, *first)
            while (first := next(clips, None)) and size_bytes < SHARD_BYTES:
                size_bytes += _add_sample(shard, snapshot, *first)
        number += 1


def _add_sample(shard: tarfile.TarFile, snapshot: Snapshot, clip: SnapshotClip, latents: ClipLatents) -> int:
    """Add a clip's archive and its description; returns their size in bytes."""
    archive = io.BytesIO()
    np.savez(archive, **_arrays(latents))
    about = {**_about(clip), "num_ws": snapshot.num_ws, "w_dim": snapshot.w_dim}
    size_bytes = _add(shard, f"{clip.clip_id}.npz", archive.getvalue())
    return size_bytes + _add(shard, f"{clip.clip_id}.json", json.dumps(about).encode())


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a file to a shard, without a time or an owner, so that equal clips make equal shards."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    shard.addfile(header, io.BytesIO(data))
    return len(data)


_WRITERS: dict[ExportFormat, Callable[[Path, Snapshot, Clips], None]] = {
    "npz": _write_archives,
    "parquet": _write_parquet,
    "webdataset": _write_shards,
}


def _arrays(clip: ClipLatents) -> dict[str, Any]:
    return {
        "w_plus": clip.w_plus.numpy(),
        "time_s": clip.time_s.numpy(),
        "quad": clip.quad.numpy(),
        "error": clip.error.numpy(),
        "interpolated": clip.interpolated.numpy(),
    }


def _about(clip: SnapshotClip) -> dict[str, object]:
    return {"subject": clip.subject, "frames": clip.frames, "frame_rate_hz": clip.frame_rate_hz}


def _index(snapshot: Snapshot, export_format: ExportFormat) -> dict[str, object]:
    files = {"npz": "{}.npz", "parquet": "latents.parquet", "webdataset": "{}.npz in a shard"}
    return {
        "snapshot": f"{snapshot.name}@{snapshot.generation}",
        "digest": snapshot.digest,
        "inversion_id": snapshot.inversion_id,
        "generator_sha256": snapshot.generator_sha256,
        "clips": [
            {"file": files[export_format].format(clip.clip_id), **_about(clip)} for clip in snapshot.clips
        ],
    }
