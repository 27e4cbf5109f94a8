"""A folder of thousands of videos, one per sample, rendered by actors in parallel.

The folder holds `samples.json`, which describes the motion, and `000000.mp4`, ... Each video appears under
its name when it is complete, so a run that was killed goes on with the missing ones.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util import ActorPool

from svgan_ray.config import flatten
from svgan_ray.device import best_device
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.orchestration.runtime.folders import folder_backend, read_record, write_record
from svgan_ray.orchestration.runtime.machines import actors_that_fit, await_machine, resources_of
from svgan_ray.orchestration.runtime.terminal import shown_progress
from svgan_ray.orchestration.sample.plan import Motion, SamplePlan
from svgan_ray.stylegan.generator import Generator
from svgan_ray.temporal.rendering import render
from svgan_ray.video.writing import SYNTHETIC_TAGS, VideoWriter

__all__ = ["VideoFolder", "make_missing"]

RECORD = "samples.json"
MAX_RETRIES = 3
"""The number of retries of a sample whose actor died with its machine or for lack of memory."""

# What may differ between two runs that fill one folder.
_OF_A_RUN = ("samples", "out", "store", "experiment", "gpus_per_actor", "batch_frames", "paste_into")


@dataclass(frozen=True)
class VideoFolder:
    """The folder of a plan's videos."""

    plan: SamplePlan

    @property
    def description(self) -> dict[str, str]:
        """All settings that decide the content of the sample with a number."""
        settings = {name: str(value) for name, value in flatten(self.plan.config).items()}
        decisive = {name: value for name, value in settings.items() if name not in _OF_A_RUN}
        return {**decisive, "model": self.plan.model_sha256}

    def claim(self) -> None:
        """Mark the folder, which must be new or hold videos of the same motion. Raises ConfigError."""
        found = read_record(self.plan.out, RECORD)
        if found is None:
            write_record(self.plan.out, RECORD, self.description)
        elif different := [name for name, value in self.description.items() if found.get(name) != value]:
            changes = "; ".join(f"{n}: {found.get(n)} there, {self.description[n]} here" for n in different)
            raise ConfigError(f"--out {self.plan.out}: holds other samples ({changes}); name another folder")

    def missing(self) -> list[int]:
        """Numbers of the samples that are missing."""
        standing = {entry.key for entry in folder_backend(self.plan.out).list("")}
        return [number for number in range(self.plan.config.samples) if video_name(number) not in standing]


def video_name(sample: int) -> str:
    """The file name of a sample in the folder."""
    return f"{sample:06d}.mp4"


def make_missing(made: VideoFolder, motion: Motion, generator: Generator) -> int:
    """Render the missing videos; returns their number. Raises ConfigError, StoreError."""
    made.claim()
    missing = made.missing()
    if not missing:
        return 0
    with connect():
        await_machine("any")
        shared = [
            ray.put((motion.to("cpu"), generator.to("cpu")))
        ]  # workers fetch references in a list only when they need them
        renderers = _renderers(motion.config.gpus_per_actor, made.plan.out, len(missing))
        done = ActorPool(renderers).map_unordered(
            lambda actor, sample: actor.render.remote(shared, sample), missing
        )
        try:
            for _ in shown_progress(done, "sampling", len(missing)):
                pass
        except RayTaskError as error:
            raise error.cause from error  # the actor's own error, such as a full disk
    return len(missing)


def _renderers(share: float, out: str, most: int) -> list[Any]:
    """As many actors as the cluster has room for."""
    gpus = share if resources_of("any").get("GPU", 0) else 0
    options: dict[str, Any] = {
        "num_cpus": 1,
        "num_gpus": gpus,
        "max_restarts": -1,
        "max_task_retries": MAX_RETRIES,
    }
    actor = ray.remote(Renderer).options(**options)
    return [actor.remote(out) for _ in range(min(actors_that_fit(gpus, "any"), most))]


class Renderer:
    """An actor that renders samples into the folder."""

    def __init__(self, out: str) -> None:
        self._backend = folder_backend(out)
        self._job: tuple[Motion, Generator] | None = None

    def render(self, shared: list[ray.ObjectRef[Any]], sample: int) -> None:
        """Make one video."""
        motion, generator = self._job = self._job or _on_device(*ray.get(shared[0]))
        side, batch = generator.config.resolution, motion.config.batch_frames
        tags = {**SYNTHETIC_TAGS, "title": f"svgan-ray sample {sample}, seed {motion.config.seed}"}
        chunks = (chunk[0] for chunk in motion.latents([sample], batch))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "video.mp4")
            with VideoWriter(path, side, side, motion.model.frame_rate_hz, tags) as video:
                for pictures in render(generator, chunks, batch_frames=batch):
                    video.write(pictures)
            self._backend.put(video_name(sample), path.read_bytes())


def _on_device(motion: Motion, generator: Generator) -> tuple[Motion, Generator]:
    device = best_device()
    return motion.to(device), generator.to(device)
