"""Networks for every machine of a job: stored by their hash, fetched once per machine, checked at each use.

In the store they are models named `weights/<sha256 of model.safetensors>`. Commits, snapshots and trained
models refer to their networks by the same hash. A FaceLandmarker's `.task` file has the hash of the file. So
a worker only needs the store's address and a hash.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from svgan_ray.errors import ConflictError, CorruptObjectError
from svgan_ray.files import file_sha256
from svgan_ray.store import keys
from svgan_ray.store.backend import ObjectNotFoundError
from svgan_ray.store.models import ModelStore
from svgan_ray.store.node_cache import cache_folder, made_once
from svgan_ray.store.records import ModelManifest
from svgan_ray.stylegan.weights import RECORD, TENSORS, weights_hash

__all__ = ["has_weights", "local_face_model", "local_weights", "put_face_model", "put_weights"]

FACE_MODEL = "face_landmarker.task"
_NAMES_IT = (TENSORS, FACE_MODEL)
"""The file whose hash identifies the network."""


def put_weights(store: ModelStore, folder: Path) -> str:
    """Store a weights folder unless the store has its tensors already; returns their sha256.

    Raises WeightsError, and ConflictError if the store has the same tensors as another network.
    """
    sha256 = weights_hash(folder)
    standing = store.record(ModelManifest, _key(sha256))
    if standing is None:
        with suppress(ConflictError):  # another process stored them first, with another note of their origin
            store.put_model(folder, _name(sha256))
        standing = _manifest(store, sha256)
    theirs = next(file for file in standing.files if file.path == RECORD)
    if _network(store.content(theirs)) != _network((folder / RECORD).read_bytes()):
        raise ConflictError(
            f"{store.uri}: holds the tensors of {folder} ({sha256[:12]}) as a network of another kind or "
            "configuration; use another store"
        )
    return sha256


def put_face_model(store: ModelStore, path: Path) -> str:
    """Store a FaceLandmarker `.task` file unless the store has it already; returns its sha256."""
    sha256 = file_sha256(path)
    if not has_weights(store, sha256):
        store.put_files({FACE_MODEL: path}, _name(sha256))
    return sha256


def has_weights(store: ModelStore, sha256: str) -> bool:
    """Whether the store has this network."""
    return store.backend.stat(_key(sha256)) is not None


def local_weights(store: ModelStore, sha256: str) -> Path:
    """A local copy of the weights folder with this hash; every byte is checked.

    Raises ObjectNotFoundError if the store does not have it, CorruptObjectError, StoreAccessError.
    """
    manifest = _manifest(store, sha256)
    # The name includes the record: jobs of two stores with different records would replace each other's copy.
    return made_once(
        cache_folder("weights") / manifest.work_sha256,
        lambda folder: _is_sound(folder, manifest),
        lambda folder: store.write_files(manifest, folder),
    )


def local_face_model(store: ModelStore, sha256: str) -> Path:
    """A local copy of the `.task` file with this hash; every byte is checked."""
    return local_weights(store, sha256) / FACE_MODEL


def _manifest(store: ModelStore, sha256: str) -> ModelManifest:
    manifest = store.record(ModelManifest, _key(sha256))
    if manifest is None:
        raise ObjectNotFoundError(
            f"{store.uri}: holds no weights {sha256[:12]}; a job publishes its --weights and --face-model "
            "there: run it again"
        )
    if not any(file.sha256 == sha256 and file.path in _NAMES_IT for file in manifest.files):
        raise CorruptObjectError(
            f"{store.uri}: {_key(sha256)} names other tensors; delete it, run the job again"
        )
    return manifest


def _is_sound(folder: Path, manifest: ModelManifest) -> bool:
    """Whether a copy has the manifest's files; disks fail, and temporary folders are partly cleaned."""
    try:
        return all(file_sha256(folder / file.path) == file.sha256 for file in manifest.files)
    except OSError:
        return False


def _network(record: bytes) -> tuple[Any, Any]:
    document = json.loads(record)
    return document["kind"], document["config"]


def _name(sha256: str) -> str:
    return f"weights/{sha256}"


def _key(sha256: str) -> str:
    return keys.model_manifest(_name(sha256))
