"""Exports a checkpoint as a model: a folder, a name in the store, artifacts of the run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from ray.train import Checkpoint
from safetensors import SafetensorError
from safetensors.torch import save_file

from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.folders import publish_model
from svgan_ray.runs import Run
from svgan_ray.runs.registry import registered_name
from svgan_ray.store import CommitRecord, LatentStore, Snapshot
from svgan_ray.store.weights import local_weights
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.model import load_model, model_of, save_model

__all__ = ["card_of", "export_model", "publish", "restore_model", "subject_means"]


MOST_SUBJECTS = 32
"""The largest number of the store's subjects that a registered model contains."""


def export_model(
    checkpoint: Checkpoint,
    name: str,
    uri: str,
    store: LatentStore,
    snapshot: Snapshot,
    run: Run,
) -> None:
    """Write the averaged weights of a checkpoint as a model at `uri`, keep it in the store, register it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "motion")
        with checkpoint.as_directory() as files:
            state = load_checkpoint(files)
        card = {**card_of(snapshot), "store_name": name}
        save_model(model_of(state, state.basis.mean.clone(), snapshot.generator_sha256, card), folder)
        store.put_model(folder, name)
        run.link({"model": name})
        publish(folder, uri)
        for path in folder.iterdir():
            run.log_file(f"model/{path.name}", path.read_bytes())
        shutil.copytree(local_weights(store, snapshot.generator_sha256), Path(temporary, "generator"))
        save_file(subject_means(store, snapshot.inversion_id), Path(temporary, "subjects.safetensors"))
        subject = snapshot.clips[0].subject
        run.log_model(Path(temporary), registered_name(subject), weights_hash(folder))


def subject_means(store: LatentStore, inversion_id: str) -> dict[str, torch.Tensor]:
    """Mean W+ [n, d] by subject, over the first chunk of a clip, for the subjects of a registered model."""
    first: dict[str, CommitRecord] = {}
    for record in sorted(store.commits(inversion_id), key=lambda record: (record.subject, record.clip_id)):
        first.setdefault(record.subject, record)
    shown = list(first.items())[:MOST_SUBJECTS]
    return {name: store.read_chunk(record.chunks[0])["w_plus"].float().mean(0) for name, record in shown}


def restore_model(name: str, uri: str, store: LatentStore) -> None:
    """Write a model from the store to `uri` again."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "model")
        store.get_model(name, folder)
        publish(folder, uri)


def publish(folder: Path, uri: str) -> None:
    """Copy a model's folder to its place atomically. Raises ConfigError, StoreError."""
    if uri.startswith("s3://"):
        publish_model(folder, uri)
        return
    try:
        save_model(load_model(folder), uri)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"--model {uri}: cannot be written: {error}; mend that (free space, say) and run the same "
            "command again: the store keeps the model"
        ) from error


def card_of(snapshot: Snapshot) -> dict[str, Any]:
    """A description of the training data, which must not differ between runs, as the store compares it."""
    return {
        "subject": snapshot.clips[0].subject,
        "snapshot": f"{snapshot.name}@{snapshot.generation}",
        "snapshot_digest": snapshot.digest,
        "inversion_id": snapshot.inversion_id,
        "clips": len(snapshot.clips),
        "footage_s": round(sum(clip.frames / clip.frame_rate_hz for clip in snapshot.clips), 1),
    }
