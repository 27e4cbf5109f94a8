"""A store of real footage, inverted in this process, and a model that was drawn rather than trained."""

from __future__ import annotations

from pathlib import Path

from svgan_ray.config import DataChoice, InvertConfig
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import Block
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.plan import inversion_of, plan_sources
from svgan_ray.orchestration.runtime.choosing import choose
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.runtime.weights import publish_networks
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.store import open_store
from svgan_ray.stylegan.weights import weights_folders, weights_hash
from svgan_ray.temporal.model import model_of, save_model
from svgan_ray.temporal.training import new_state
from tests.motion import tiny


def invert_here(config: InvertConfig) -> str:
    """What the invert job does, without Ray; returns the inversion's id."""
    store = open_store(config.store, create=True)
    job = inversion_of(config, store.uri)
    publish_networks(store, config)
    plan = plan_sources(config, job, store, choose(config.videos))
    ledger, encoder = Ledger(store, job, plan.earlier_failures), BlockEncoder(job, store, "here")
    for source in plan.todo:
        for item in track_source(job, source, frozenset()):
            ledger.take(encoder(crop_block(item, job.crop_side)) if isinstance(item, Block) else item)
    ledger.settle()
    return job.inversion_id


def draw_model(store_uri: str, weights: str, subject: str, folder: str | Path) -> None:
    """A model of the subject's latents with random weights."""
    store = open_store(store_uri)
    sha256 = weights_hash(weights_folders(weights)[0])
    snapshot = resolve_snapshot(store, DataChoice(subject=subject), sha256)
    config = tiny()
    data = training_set(store, snapshot, config)
    card = {
        "subject": subject,
        "snapshot": f"{snapshot.name}@{snapshot.generation}",
        "inversion_id": snapshot.inversion_id,
        "footage_s": 4.0,
    }
    save_model(model_of(new_state(config, data.basis), data.basis.mean.clone(), sha256, card), folder)
