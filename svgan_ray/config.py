"""The settings of each job: one frozen dataclass for each job, and the meaning of each option.

Precedence: flags of the command line, then the experiment file (svgan_ray/experiment_file.py), then the
defaults below.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from svgan_ray.errors import ConfigError
from svgan_ray.places import Name, Place, settle_places
from svgan_ray.ranges import Range, above, at_least, check_ranges, from_to
from svgan_ray.temporal.recipes import TemporalConfig, demo

Machines = Literal["any", "spot", "on-demand"]
"""Machines of a cluster by Ray's own label `ray.io/market-type`."""

SHARE = Range(0, 1, holds_least=False)
"""Shares of a GPU. A process here computes on one GPU, so it cannot use more than one."""
SEEDS = from_to(-(2**63), 2**63 - 1)
"""Seeds that fit into 64 bits."""
FINITE = Range()

FORMER_NAMES: dict[str, dict[str, str]] = {"tune": {"evaluations": "rungs"}}
"""For each job, the former names of its settings, which flags and experiment files may still use."""


@dataclass(frozen=True)
class InvertConfig:
    """Turn footage into latents: track, crop, encode, commit to the store."""

    videos: Annotated[tuple[str, ...], Place("input")] = ("demo",)
    """Files, folders, globs or s3:// prefixes; `demo` renders the demo's subjects first."""
    store: Annotated[str, Place("folder")] = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`."""
    faces: Literal["sidecar", "aligned", "mediapipe"] = "sidecar"
    """How faces are found: by the landmarks in `<video>.landmarks.safetensors`, not at all because the
    footage is already aligned, or by mediapipe (which needs the extra `face`)."""
    face_model: Annotated[str | None, Place("input")] = None
    """A FaceLandmarker `.task` file that mediapipe uses instead of the model that it ships with. Workers
    fetch it from the store."""
    people: str = "longest"
    """Whom to follow if a video shows several people: `longest` is the person seen in the most frames, `2`
    the person seen in the second most, and so on; `all` makes each person a subject."""
    subject: Annotated[str | None, Name()] = None
    """Whom the footage shows. The default is each video's file name without its ending, or the folder's name
    if several folders hold files of the same name."""
    until: Literal["latents", "tracks"] = "latents"
    """The last stage to run. `tracks` only finds and follows faces, which is all that `jobs/fit.py` needs."""
    batch_frames: Annotated[int, at_least(1)] = 16
    """Number of frames that the encoder processes at once; part of the identity of the result."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision that the encoder computes in; bfloat16 is faster on GPUs. Part of the identity of the
    result."""
    error_every_frames: Annotated[int, at_least(1)] = 25
    """Measure the reconstruction error of every n-th frame; part of the identity of the result."""
    refine_steps: Annotated[int, at_least(0)] = 0
    """Optimisation steps that refine the encoder's latents; 0 is none. Part of the identity of the result."""
    float16: bool = False
    """Store latents as float16, in half the bytes. Each commit records how close their pictures stay to those
    of float32 (PSNR). Part of the identity of the result."""
    refine_lpips: Annotated[str | None, Place("input")] = None
    """Folder with an imported `lpips` network. If it is given, the optimisation also minimises the LPIPS
    distance. Part of the identity of the result."""
    actors: str | None = None
    """Number of encoders that run in parallel, or a range `LEAST:MOST` that follows the amount of work. The
    default is from 1 to as many as the cluster has room for."""
    gpus_per_actor: Annotated[float, SHARE] = 0.25
    """Share of a GPU that each encoder gets, if the cluster has GPUs."""
    machines: Machines = "any"
    """Machines that do the work, in a cluster that labels them `ray.io/market-type`."""
    retry_failures: bool = False
    """Try the videos and clips that failed in earlier runs again."""
    max_failure_fraction: Annotated[float, from_to(0, 1)] = 0.5
    """The job fails if more than this share of the videos fails."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)
        is_rank = self.people.isdecimal() and int(self.people) > 0
        whom = "`longest`, `all` or a rank from 1"
        _require(is_rank or self.people in ("longest", "all"), "people", whom, self.people)
        own_model = self.face_model is None or self.faces == "mediapipe"
        _require(own_model, "face_model", "none unless faces is mediapipe", self.face_model)
        _require(self.videos, "videos", "at least one file, folder, glob or s3:// prefix", self.videos)
        lpips_is_used = self.refine_lpips is None or self.refine_steps > 0
        _require(lpips_is_used, "refine_lpips", "none unless refine_steps is above 0", self.refine_lpips)
        expected = "a number from 1, such as 4, or a range, such as 1:32"
        _require(self.actors is None or self.actor_range, "actors", expected, self.actors)

    @property
    def actor_range(self) -> tuple[int, int] | None:
        """Least and greatest number of parallel encoders; None if `actors` is not set or is malformed."""
        least, colon, most = (self.actors or "").partition(":")
        most = most if colon else least
        if not (least.isdecimal() and most.isdecimal()):
            return None
        bounds = int(least), int(most)
        return bounds if 1 <= bounds[0] <= bounds[1] else None


@dataclass(frozen=True)
class FitConfig:
    """Fit a generator and an encoder to the people in footage, starting from existing weights."""

    store: Annotated[str, Place("input")] = "store"
    """Latent store that holds the footage's tracks: a folder or s3://bucket/prefix. `jobs/invert.py --until
    tracks` makes the tracks."""
    subject: Annotated[str | None, Name()] = None
    """Subjects to fit to, separated by commas. The default is the only subject in the store."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds the `generator` and `encoder` that the fit starts from, or `demo`."""
    out: Annotated[str, Place("folder")] = "weights/fitted"
    """Folder to write the fitted `generator` and `encoder` to, a local one or s3://bucket/prefix."""
    what: Literal["both", "generator"] = "both"
    """`both` trains the synthesis network and the encoder. `generator` tunes only the synthesis network, to
    the footage's latents in the store (pivotal tuning); use it for large generators."""
    minutes: Annotated[float, above(0)] = 10.0
    """How long to fit. It is converted into a number of steps once for each fit, after one step was timed."""
    steps: Annotated[int | None, at_least(1)] = None
    """Number of steps to fit for, however long they take."""
    batch: Annotated[int, at_least(1)] = 16
    """Images in each step, over all workers."""
    micro_batch: Annotated[int, at_least(1)] = 16
    """Images whose feature maps a worker keeps in memory at once. Fewer need less memory; the result is the
    same."""
    tracking: Annotated[str | None, Name()] = None
    """Tracking whose crops are used. It is needed if the store holds several trackings of a subject."""
    inversion: Annotated[str | None, Name()] = None
    """Inversion whose latents are the pivots of `--what generator`. It is needed if several match."""
    checkpoints: Annotated[str, Place("folder")] = "runs/fit"
    """Where checkpoints are kept, a local folder or s3://bucket/prefix; a second run goes on from them."""
    checkpoint_every_steps: Annotated[int, at_least(1)] = 100
    """How often the fit scores the held-out frames, shows some of them and writes a checkpoint."""
    workers: Annotated[int, at_least(1)] = 1
    """Processes that share each batch."""
    cpus_per_worker: Annotated[int, at_least(1)] = 1
    """Cores of each of them."""
    gpu: bool | None = None
    """Fit on GPUs. The default is to do so if the cluster has a GPU for each worker, or has GPUs and can
    grow."""
    machines: Machines = "any"
    """Machines that do the work, in a cluster that labels them `ray.io/market-type`."""
    seed: Annotated[int, SEEDS] = 0
    """Seed of the choice of frames for each step."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)
        _require(self.subject is None or self.subjects, "subject", "a name, or several", self.subject)
        fed = f"at most {self.batch}, the batch"
        _require(self.workers <= self.batch, "workers", fed, self.workers)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names, each once."""
        return tuple(dict.fromkeys(name.strip() for name in (self.subject or "").split(",") if name.strip()))


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """The clips of a store that a job uses; None lets the content of the store decide."""

    subject: Annotated[str | None, Name()] = None
    """Subject to learn. The default is the only subject in the store."""
    snapshot: Annotated[str | None, Name()] = None
    """Snapshot to train on, NAME or NAME@GENERATION. The default is a new snapshot of the subject's clips."""
    inversion: Annotated[str | None, Name()] = None
    """Inversion whose latents are used. It is needed if the store holds several that these weights made."""
    min_clip_s: Annotated[float, at_least(0)] = 0.0
    """Leave out clips that are shorter than this."""
    max_error: Annotated[float | None, at_least(0)] = None
    """Leave out clips whose mean reconstruction error is larger than this."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


@dataclass(frozen=True)
class LearningConfig(DataChoice):
    """The settings that a training and a study share."""

    store: Annotated[str, Place("input")] = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`. It must be the pair that made
    the latents."""
    recipe: Literal["demo", "paper", "faces_1024"] = "demo"
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
        _require_no_password(self.search_storage, "search_storage", "PGPASSWORD, or in ~/.pgpass")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the fields of a pickle; version 0.1.0 called `rungs` `evaluations`."""
        former = FORMER_NAMES["tune"]
        self.__dict__.update({former.get(name, name): value for name, value in state.items()})


@dataclass(frozen=True)
class SampleConfig:
    """Generate videos from a trained model: of its subject, of the person in a photo, or of a subject in the
    store."""

    model: Annotated[str, Place("input")] = "models/demo"
    """A trained model: a local folder, s3://bucket/prefix or models:/NAME@champion in MLflow's registry."""
    out: Annotated[str, Place("file")] = "samples/sample.mp4"
    """Video to write. Several samples go into a folder of that name without .mp4, or to
    s3://bucket/prefix."""
    seed: Annotated[int, SEEDS] = 0
    """Seed of the noise: the same seed gives the same video."""
    seconds: Annotated[float, above(0)] = 10.0
    """Length of each video."""
    samples: Annotated[int, at_least(1)] = 1
    """Number of videos to make, in parallel. A second run makes the ones that are missing."""
    grid: bool = False
    """Put all samples side by side into one video."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`. It must be the pair that made
    the latents."""
    photo: Annotated[str | None, Place("input")] = None
    """A picture whose largest face moves instead of the model's subject."""
    faces: Literal["sidecar", "aligned", "mediapipe"] | None = None
    """How the photo's face is found: by a file of landmarks beside the photo, not at all because the photo is
    already an aligned crop, or by mediapipe (which needs the extra `face`). The default is the landmarks if
    there are any, else mediapipe."""
    refine_steps: Annotated[int, at_least(0)] = 100
    """Optimisation steps that refine the photo's latents after the encoder, 0 for none."""
    subject: Annotated[str | None, Name()] = None
    """The subject or clip of the store, or `demo:7`, that moves instead of the model's subject."""
    store: Annotated[str, Place("input")] = "store"
    """Latent store that holds the other subject."""
    strength: Annotated[float, FINITE] = 1.0
    """How strongly another subject follows the motion."""
    reference: Literal["mean", "first"] = "mean"
    """The state of the motion at which another subject is at rest: the mean of the footage, or the first
    generated frame."""
    layers: Annotated[tuple[int, ...] | None, at_least(0)] = None
    """Style vectors of another subject that move. By default all of them do."""
    truncation: Annotated[float, above(0)] = 1.0
    """Truncation of the motion: a value below 1 keeps it closer to the mean."""
    blend_seed: Annotated[int | None, SEEDS] = None
    """Seed of a second motion that is blended with the first."""
    blend: Annotated[float, from_to(0, 1)] = 0.5
    """Share of the second motion: 0 gives the motion of `seed`, 1 the motion of `blend_seed`."""
    paste_into: Annotated[str | None, Place("input")] = None
    """A video of the subject in which the generated face replaces the face of the longest clip in the store.
    The video must have been inverted as the model's footage was."""
    batch_frames: Annotated[int, at_least(1)] = 16
    """Frames that are rendered at once. Another value changes a pixel by one grey level at most."""
    gpus_per_actor: Annotated[float, SHARE] = 0.25
    """Share of a GPU that each renderer of several samples gets, if the cluster has GPUs."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)
        _require(self.photo is None or self.subject is None, "photo", "none beside a subject", self.photo)
        alone = self.photo is None and self.samples == 1
        _require(alone or self.paste_into is None, "paste_into", "one sample and no photo", self.paste_into)

    @property
    def makes_a_folder(self) -> bool:
        """Whether the job writes several videos, one for each sample."""
        return self.samples > 1 and not self.grid


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure how a model's motion compares with the footage."""

    model: Annotated[str, Place("input")] = "models/demo"
    """A trained model: a local folder, s3://bucket/prefix or models:/NAME@champion in MLflow's registry."""
    store: Annotated[str, Place("input")] = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    subject: Annotated[str | None, Name()] = None
    """Subject whose footage the motion is compared with. The default is the subject that the model learnt."""
    snapshot: Annotated[str | None, Name()] = None
    """Snapshot of held-out footage, NAME or NAME@GENERATION. The default is the model's training footage."""
    seconds: Annotated[float, above(0)] = 66.0
    """Length of each generated sample."""
    samples: Annotated[int, at_least(1)] = 150
    """Number of generated samples."""
    seed: Annotated[int, SEEDS] = 0
    """Seed of the noise."""
    out: Annotated[str, Place("file")] = "reports/evaluation.json"
    """File to write the report to."""
    networks: Annotated[str | None, Place("input")] = None
    """Folder of imported networks that score pictures: any of `i3d` (FVD), `inception` (FID) and `arc_face`
    (identity, ACD). The footage must still be where it was when it was inverted."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder that holds `generator` and `encoder`, or `demo`. The generator renders what these networks
    see."""
    clips: Annotated[int, at_least(1)] = 2048
    """Number of real clips, and of generated clips, that these networks see."""
    fvd_clips: tuple[Literal["16", "128", "16x8"], ...] = ("16", "128", "16x8")
    """Clips that FVD is measured on: 16 frames, 128 frames, or 16 frames of which each is eight frames after
    the one before."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


@dataclass(frozen=True)
class ReplayConfig:
    """Send the waiting events of jobs that died or were disconnected to MLflow. No event arrives twice."""

    spool: Annotated[str, Place("input")] = "mlspool"
    """Folder of the waiting events: `mlspool` in the working directory of the job that left them."""
    tracking_uri: Annotated[str | None, Place("database")] = None
    """Server or database that receives them. The default is MLFLOW_TRACKING_URI, or mlflow.db in the working
    directory if that is not set."""

    def __post_init__(self) -> None:
        settle_places(self)
        _require_no_password(self.tracking_uri or "", "tracking_uri", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True)
class DemoConfig:
    """The whole experiment at once: footage, latents, models, new videos, a page that shows them."""

    folder: Annotated[str, Place("folder")] = "demo"
    """Folder for the footage, the store, the models and the videos."""
    video: Annotated[str | None, Place("input")] = None
    """Your own footage, used in place of the rendered subjects. A generator is fitted to the people in it."""
    faces: Literal["sidecar", "aligned", "mediapipe"] | None = None
    """How the faces in your own footage are found. The default is the landmarks beside it if there are any,
    else mediapipe (which needs the extra `face`)."""
    fit_minutes: Annotated[float, above(0)] = 8.0
    """How long to fit the generator to your own footage."""
    train_minutes: Annotated[float, above(0)] = 6.0
    """The longest time to train a motion model on your own footage."""
    subjects: Annotated[int, at_least(1)] = 3
    """Number of rendered subjects."""
    seconds: Annotated[float, above(0)] = 120.0
    """Length of the footage that is rendered of the first subject, whom the motion model learns. The others,
    who only move like the first, get a quarter of it."""
    experiment: Annotated[str, Name()] = "demo"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


@dataclass(frozen=True)
class DoctorConfig:
    """Check whether jobs can run here: packages, GPU, video, memory, disk, weights, store, MLflow, Ray.

    The job prints a line for each check and each machine, and what to do about each problem. The exit code is
    0 if jobs can run.
    """

    store: Annotated[str, Place("input")] = "store"
    """Latent store that jobs will use, a folder or s3://bucket/prefix. The check writes there and cleans
    up."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`."""
    free_disk_gb: Annotated[float, above(0)] = 2.0
    """Free space, in GB, that the working directory and the temporary folder need."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """Fields of a config by dotted name, including nested ones, as they are printed and logged."""
    flat: dict[str, object] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat


def _require(condition: object, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{name}: expected {expected}, got {got!r}")


def _require_no_password(address: str, name: str, place: str) -> None:
    """Settings are printed, logged and visible as process arguments, so the error does not show the value."""
    if re.search(r"://[^/@]*:[^/@]*@", address) or re.search(r"[?&]password=", address):
        raise ConfigError(f"{name}: holds a password, which others would see; set it in {place}")
