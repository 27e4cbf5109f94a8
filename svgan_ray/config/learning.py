"""Settings of the jobs that learn motion: a training, and a study of many trainings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from svgan_ray.config.common import SHARE, DataChoice, Machines, require_no_password
from svgan_ray.former_names import reads_former_names
from svgan_ray.places import Name, Place, settle_places
from svgan_ray.ranges import above, at_least, check_ranges, from_to
from svgan_ray.temporal.recipes import TemporalConfig, demo

__all__ = ["LearningConfig", "TrainConfig", "TuneConfig"]


@dataclass(frozen=True)
class LearningConfig(DataChoice):
    """The settings that a training and a study share."""

    store: Annotated[str, Place("input")] = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`. It must be the pair that made
    the latents."""
    recipe: Literal["demo", "paper", "faces_1024", "flow"] = "demo"
    """Recipe that the fields of `temporal` start from. Flags and the experiment file change single fields."""
    preset: Annotated[str | None, Place("input")] = None
    """JSON file that a study wrote (`preset.json`). It is used in place of the recipe."""
    temporal: TemporalConfig = field(default_factory=demo)
    """Options of the temporal GAN and its training. A study searches for better values of some of them."""
    machines: Machines = "any"
    """Machines that do the work, in a cluster that labels them `ray.io/market-type`."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""


@dataclass(frozen=True)
class TrainConfig(LearningConfig):
    """Train a temporal GAN on one subject's latents."""

    model: Annotated[str, Place("folder")] = "models/demo"
    """Folder to write the trained model to, a local one or s3://bucket/prefix."""
    minutes: Annotated[float | None, above(0)] = None
    """Stop the training after this many minutes, even if not all steps are done."""
    checkpoints: Annotated[str, Place("folder")] = "runs/train"
    """Where checkpoints are kept, a local folder or s3://bucket/prefix; a second run goes on from them."""
    workers: Annotated[int, at_least(1)] = 1
    """Processes that share each batch."""
    cpus_per_worker: Annotated[int, at_least(1)] = 1
    """CPU cores for each of these processes. Without a GPU, more cores speed up large networks, and training
    that computes the penalties at every step."""
    gpu: bool | None = None
    """Train on GPUs. The default is to do so if the cluster has a GPU for each worker, or has GPUs and can
    grow."""
    checkpoint_every_steps: Annotated[int, at_least(1)] = 500
    """How often the training writes a checkpoint. A killed training goes on from its last checkpoint."""
    sample_every_steps: Annotated[int, at_least(1)] = 1000
    """How often a background thread logs metrics, a film strip and a video of fixed noises."""
    sample_seconds: Annotated[float, above(0)] = 4.0
    """Length of the videos that the training logs."""


@reads_former_names
@dataclass(frozen=True)
class TuneConfig(LearningConfig):
    """Search for the options of the temporal GAN whose motion is most like the subject's."""

    model: Annotated[str, Place("folder")] = "models/demo-tuned"
    """Folder to write the best trial's model to, a local one or s3://bucket/prefix."""
    out: Annotated[str, Place("file")] = "presets/tuned.json"
    """File to write the best trial's options to; `jobs/train.py --preset` reads it."""
    study: Annotated[str, Name()] = "demo"
    """Name of the study. A second run with the same name goes on with that study."""
    resume: bool = False
    """Only go on with a study that exists: the job ends with an error if no study has that name."""
    study_folder: Annotated[str, Place("folder")] = "runs/tune"
    """Where the study's state and checkpoints are kept, a local folder or s3://bucket/prefix."""
    search_storage: Annotated[str, Place("database")] = "sqlite:///optuna.db"
    """Database of the search, given without a password: sqlite:///FILE, or
    postgresql://USER@HOST/DATABASE?passfile=FILE."""
    trials: Annotated[int, at_least(1)] = 6
    """Total number of trials. The first one is the recipe itself."""
    enqueue: Annotated[tuple[str, ...], Place("input")] = ()
    """Presets that are known to be good; the study tries them right after the recipe."""
    pareto: bool = False
    """Optimise fidelity and drift together. No trial stops early then, and the result is a Pareto front."""
    rungs: Annotated[int, at_least(1)] = 6
    """How often each trial is measured. After each measurement, the worse half of the trials is stopped."""
    concurrent_trials: Annotated[int | None, at_least(1)] = None
    """Number of trials that run in parallel. The default is as many as the cluster has room for."""
    gpus_per_trial: Annotated[float, SHARE] = 0.5
    """Share of a GPU that each trial gets, if the cluster has GPUs."""
    seed: Annotated[int, from_to(0, 2**32 - 1)] = 0
    """Seed of the search."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)
        require_no_password(self.search_storage, "search_storage", "PGPASSWORD, or in ~/.pgpass")
