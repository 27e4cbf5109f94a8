"""From Python instead of the command line: footage becomes latents, those become a model, that makes a video.

Run it as a program (`python examples/from_python.py`), or cell by cell in an editor that knows `# %%`. It
works in the folder `example/`, renders its own footage, and needs neither GPU nor weights. It takes a minute.
"""

# %% The jobs take a frozen dataclass each, the same one that flags and `experiment.toml` fill.
from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch

from svgan_ray.config import InvertConfig, SampleConfig, TrainConfig
from svgan_ray.demo.behaviour import subject
from svgan_ray.demo.footage import render_footage
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.orchestration.sample.job import run as sample
from svgan_ray.orchestration.train.job import run as train
from svgan_ray.store import open_store
from svgan_ray.temporal.model import load_model
from svgan_ray.temporal.recipes import demo
from svgan_ray.temporal.sampling import sample_latents

FOLDER = Path("example")
STEPS = 200


# %% A folder of footage: here two short videos of drawn people. Landmarks lie beside each video.
def make_footage() -> str:
    footage = FOLDER / "footage"
    footage.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        render_footage(footage / f"person-{number}.mp4", subject(number), seconds=8)
    return str(footage)


# %% Footage becomes latents W+ in a store. A second run finds what is done.
def make_latents(footage: str) -> str:
    store = str(FOLDER / "store")
    invert(InvertConfig(videos=(footage,), store=store))
    latents = open_store(store)
    [inversion_id] = latents.inversion_ids()
    for clip_id in sorted(latents.committed_ids(inversion_id)):
        clip = latents.read_clip(inversion_id, clip_id)
        print(f"clip {clip_id[:12]}: {clip.frames} frames")
    return store


# %% Latents of one person become a model of the motion. Options are fields of the recipe.
def make_model(store: str) -> str:
    model = str(FOLDER / "model")
    options = dataclasses.replace(demo(), steps=STEPS)
    config = TrainConfig(
        store=store,
        subject="person-1",
        model=model,
        checkpoints=str(FOLDER / "checkpoints"),
        temporal=options,
        sample_every_steps=STEPS,
    )
    print(f"trained {train(config).finished.steps} steps")
    return model


# %% A model makes videos; its latents are at hand without a job, too.
def make_video(model: str) -> Path:
    w_plus = torch.cat(list(sample_latents(load_model(model), seed=7, frames=50)))  # [T, n, d]
    print(f"latents of 50 frames: {list(w_plus.shape)}")
    out = FOLDER / "sample.mp4"
    sample(SampleConfig(model=model, seed=7, seconds=2, out=str(out)))
    return out


# %% One Ray serves all jobs here; without `connect` each would start its own. RAY_ADDRESS names a cluster.
if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER.absolute()}/mlflow.db")
    with connect():
        print(make_video(make_model(make_latents(make_footage()))))
