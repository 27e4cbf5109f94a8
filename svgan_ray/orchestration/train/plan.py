"""A training with all settings resolved: its data, its identity, and the places of its results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from svgan_ray.config import TrainConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.folders import read_record
from svgan_ray.orchestration.runtime.journal import RunKey
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot, snapshot_rows
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.orchestration.train.loop import TrainingJob
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.store.weights import put_weights
from svgan_ray.stylegan.weights import weights_hash

__all__ = ["FINISHED", "Finished", "TrainingPlan", "plan_training"]

FINISHED = "finished.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Finished:
    """The end of a training, stored beside its checkpoints."""

    steps: int
    elapsed_s: float
    figures: dict[str, float]

    def covers(self, job: TrainingJob) -> bool:
        """Whether the requested steps or minutes were done."""
        in_time = job.budget_s is not None and self.elapsed_s >= job.budget_s
        return self.steps >= job.config.steps or in_time


@dataclass(frozen=True)
class TrainingPlan:
    """A training with all settings resolved."""

    config: TrainConfig
    store: LatentStore
    job: TrainingJob
    checkpoints: str
    model: str
    finished: Finished | None

    @property
    def name(self) -> str:
        """Name of the training among the checkpoints, and of its models in the store."""
        return self.folder.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The folder of this training's checkpoints."""
        return self.job.folder

    @property
    def run(self) -> RunKey:
        """The key of its run."""
        return RunKey(
            self.config.experiment, f"train {Path(self.model).name}", "train", f"train-{self.job.id}"
        )

    def model_name(self, steps: int) -> str:
        """The name in the store of the model after `steps` steps."""
        return f"{self.name}/step-{steps:08d}"

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False)
        snapshot_rows(self.job.snapshot, table)
        table.add_row("inversion", self.job.snapshot.inversion_id)
        budget = "" if self.job.budget_s is None else f" or {self.job.budget_s / 60:g} minutes"
        table.add_row("training", f"{self.job.id}, {self.job.config.steps:,} steps{budget}")
        table.add_row("checkpoints", self.folder)
        table.add_row("model", self.model)
        if self.finished is not None:
            done = (
                "finished already" if self.finished.covers(self.job) else "goes on from the last checkpoint"
            )
            table.add_row("earlier runs", f"{self.finished.steps:,} steps; {done}")
        return table


def plan_training(config: TrainConfig, put: bool = True) -> TrainingPlan:
    """Resolve paths, snapshot and identity; `put` stores snapshot and generator if they are new."""
    if config.workers > config.temporal.batch_size:
        raise ConfigError(
            f"--workers {config.workers}: expected at most {config.temporal.batch_size}, the size of a batch"
        )
    store = open_store(durable(config.store, "--store"))
    generator_folder, _ = folders_of(config.weights)
    generator_sha256 = put_weights(store, generator_folder) if put else weights_hash(generator_folder)
    snapshot = resolve_snapshot(store, config, generator_sha256, put)
    identity = {"temporal": {**config.temporal.to_dict(), "steps": None}, "snapshot": snapshot.digest}
    training_id = content_id({**identity, "schema": _SCHEMA})
    model, checkpoints = durable(config.model, "--model"), durable(config.checkpoints, "--checkpoints")
    job = TrainingJob(
        id=training_id,
        config=config.temporal,
        budget_s=None if config.minutes is None else 60 * config.minutes,
        store=store.uri,
        snapshot=snapshot,
        generator_sha256=generator_sha256,
        checkpoint_every_steps=config.checkpoint_every_steps,
        sample_every_steps=config.sample_every_steps,
        sample_seconds=config.sample_seconds,
        folder=f"{checkpoints}/{snapshot.name}-{training_id[:16]}",
    )
    plan = TrainingPlan(config, store, job, checkpoints, model, None)
    record = read_record(plan.folder, FINISHED)
    return dataclasses.replace(plan, finished=Finished(**record)) if record else plan
