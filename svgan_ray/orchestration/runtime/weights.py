"""The networks that `--weights` names: as folders on this machine, and published for the workers."""

from __future__ import annotations

from pathlib import Path

from svgan_ray.config import InvertConfig
from svgan_ray.errors import WeightsError
from svgan_ray.store import LatentStore
from svgan_ray.store.backend import Entry
from svgan_ray.store.keys import content_id
from svgan_ray.store.latent_store import backend_of
from svgan_ray.store.node_cache import cache_folder, made_once
from svgan_ray.store.weights import put_face_model, put_weights
from svgan_ray.stylegan.metric_networks import Lpips
from svgan_ray.stylegan.weights import RECORD, TENSORS, network_folder, weights_folders

__all__ = ["folders_of", "publish_networks"]

_FILES = frozenset(f"{network}/{file}" for network in ("generator", "encoder") for file in (TENSORS, RECORD))


def folders_of(weights: str) -> tuple[Path, Path]:
    """(generator folder, encoder folder) of `demo`, of a folder, or of a prefix on S3, which is fetched."""
    return weights_folders(_fetched(weights) if weights.startswith("s3://") else weights)


def publish_networks(store: LatentStore, config: InvertConfig) -> tuple[str, ...]:
    """Put all networks that an inversion's workers need into the store; returns their hashes."""
    folders = [*folders_of(config.weights)] if config.until == "latents" else []
    if folders and config.refine_lpips is not None:
        folders.append(network_folder(Lpips, config.refine_lpips))
    hashes = [put_weights(store, folder) for folder in folders]
    if config.face_model is not None:
        hashes.append(put_face_model(store, Path(config.face_model)))
    return tuple(hashes)


def _fetched(uri: str) -> Path:
    """A cached copy of the `generator`, `encoder` or both below a prefix, valid while they do not change."""
    backend = backend_of(uri)
    entries: list[Entry] = [entry for entry in backend.list("") if entry.key in _FILES]
    if not entries:
        raise WeightsError(
            f"{uri}: no weights; expected generator/{TENSORS}, generator/{RECORD} and the same below "
            "encoder/, as jobs/import_weights.py writes them"
        )

    def fetch(folder: Path) -> None:
        for entry in entries:
            path = folder / entry.key
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(backend.get(entry.key))

    seen = [[entry.key, entry.size_bytes, entry.modified_s] for entry in entries]
    return made_once(cache_folder("weights") / content_id({"uri": uri, "files": seen}), Path.exists, fetch)
