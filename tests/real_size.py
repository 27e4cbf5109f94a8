"""Networks of real size through the whole way, in a process of its own: python -m tests.real_size FOLDER.

Reads FOLDER/e4e.pt, leaves FOLDER/sample.mp4, and prints what it took as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch

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
from svgan_ray.stylegan import import_weights, load_generator
from svgan_ray.temporal.model import load_model, model_of, save_model
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents
from svgan_ray.temporal.training import new_state, train_step
from svgan_ray.video.alignment import CropParameters
from svgan_ray.video.writing import SYNTHETIC_TAGS, write_video
from tests.motion import tiny
from tests.peak import peak_bytes

FRAMES, TRAINING_STEPS = 8, 3


def main(folder: Path) -> None:
    """Import, invert, train, sample."""
    import_weights(folder / "e4e.pt", folder / "weights")
    footage = np.random.default_rng(0).integers(0, 256, (FRAMES, 320, 288, 3), np.uint8)
    write_video(folder / "anna.mp4", footage, 25.0, {})
    config = InvertConfig(
        videos=(str(folder / "anna.mp4"),),
        store=str(folder / "store"),
        weights=str(folder / "weights"),
        faces="aligned",
        batch_frames=FRAMES,
    )
    store = open_store(config.store, create=True)
    job = dataclasses.replace(inversion_of(config, store.uri), crop=CropParameters(min_clip_frames=FRAMES))
    plan = plan_sources(config, job, store, choose(config.videos))
    publish_networks(store, config)
    ledger, encoder = Ledger(store, job, {}), BlockEncoder(job, store, "here")
    for item in track_source(job, plan.todo[0], frozenset()):
        ledger.take(encoder(crop_block(item, job.crop_side)) if isinstance(item, Block) else item)
    ledger.settle()
    [commit] = ledger.commits.values()
    del encoder

    recipe = tiny(basis_size=4, window_frames=5)
    data = training_set(
        store, resolve_snapshot(store, DataChoice(subject="anna"), job.generator_sha256), recipe
    )
    state = new_state(recipe, data.basis)
    for _ in range(TRAINING_STEPS):
        train_step(state, data.features, data.index(recipe.window_frames))
    model = model_of(state, data.basis.mean.clone(), job.generator_sha256)
    save_model(model, folder / "model")

    generator = load_generator(folder / "weights")
    pictures = render(generator, sample_latents(load_model(folder / "model"), 0, FRAMES))
    write_video(folder / "sample.mp4", np.concatenate(list(pictures)), 25.0, SYNTHETIC_TAGS)
    measured = {
        "frames": commit.stop_frame - commit.first_frame,
        "w_plus": [commit.num_ws, commit.w_dim],
        "steps": state.step,
        "parameters": sum(p.numel() for p in generator.parameters()),
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    torch.manual_seed(0)
    main(Path(sys.argv[1]))
