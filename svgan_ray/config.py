"""What each job can be told: one frozen dataclass a job, each option with its meaning.

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
"""Shares of a GPU: more than one is of no use to a process that computes on one."""
SEEDS = from_to(-(2**63), 2**63 - 1)
"""What fits 64 bits."""
FINITE = Range()

FORMER_NAMES: dict[str, dict[str, str]] = {"tune": {"evaluations": "rungs"}}
"""By job: settings that had another name once. Flags and experiment files may still use it."""


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
    """Where faces are: landmarks in `<video>.landmarks.safetensors`, footage that is aligned already, or what
    mediapipe finds (needs the extra `face`)."""
    face_model: Annotated[str | None, Place("input")] = None
    """A FaceLandmarker `.task` file for mediapipe instead of the model that it ships; workers get it from
    the store."""
    people: str = "longest"
    """Whom to follow of several people: `longest`, the one seen in most frames; `2`, the second most, and so
    on; or `all`, each a subject of its own."""
    subject: Annotated[str | None, Name()] = None
    """Whom the footage shows; by default each video's file name without its ending, or, where files of equal
    names lie in different folders, the name of the folder."""
    until: Literal["latents", "tracks"] = "latents"
    """Where to stop: `tracks` finds and follows faces only, which is what `jobs/fit.py` needs."""
    batch_frames: Annotated[int, at_least(1)] = 16
    """Frames that the encoder takes at once; part of the identity of the result."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the encoder computes in; bfloat16 is faster on GPUs; part of the identity of the result."""
    error_every_frames: Annotated[int, at_least(1)] = 25
    """Measure the reconstruction error of every n-th frame; part of the identity of the result."""
    refine_steps: Annotated[int, at_least(0)] = 0
    """Steps of optimisation after the encoder, 0 for none; part of the identity of the result."""
    float16: bool = False
    """Keep latents in half the bytes; each commit tells how near their pictures stay to those of float32
    (PSNR); part of the identity of the result."""
    refine_lpips: Annotated[str | None, Place("input")] = None
    """Folder with an imported `lpips`, whose distance the optimisation then minimises too; part of the
    identity of the result."""
    actors: str | None = None
    """Encoders at work at once: a number, or `LEAST:MOST` as there is work; by default 1 to what fits."""
    gpus_per_actor: Annotated[float, SHARE] = 0.25
    """Share of a GPU for each encoder, in a cluster that has GPUs."""
    machines: Machines = "any"
    """Machines that do the work, in a cluster that labels them `ray.io/market-type`."""
    retry_failures: bool = False
    """Try again what failed in earlier runs."""
    max_failure_fraction: Annotated[float, from_to(0, 1)] = 0.5
    """The job fails when more than this share of the videos fails."""
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
        """Least and most encoders at once; None where `actors` says nothing that can be used."""
        least, colon, most = (self.actors or "").partition(":")
        most = most if colon else least
        if not (least.isdecimal() and most.isdecimal()):
            return None
        bounds = int(least), int(most)
        return bounds if 1 <= bounds[0] <= bounds[1] else None


@dataclass(frozen=True)
class FitConfig:
    """Fit a generator and an encoder to the people in footage: weights of one's own from weights at hand."""

    store: Annotated[str, Place("input")] = "store"
    """Latent store that holds the footage's tracks: a folder or s3://bucket/prefix; `jobs/invert.py --until
    tracks` makes them."""
    subject: Annotated[str | None, Name()] = None
    """Whom to fit to, several with commas between; by default the only subject in the store."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds the `generator` and `encoder` to begin with, or `demo`."""
    out: Annotated[str, Place("folder")] = "weights/fitted"
    """Folder of the fitted `generator` and `encoder`, a local one or s3://bucket/prefix."""
    what: Literal["both", "generator"] = "both"
    """`both` trains synthesis and encoder; `generator` tunes synthesis alone to the latents that the store
    holds of the footage (pivotal tuning), which large generators want."""
    minutes: Annotated[float, above(0)] = 10.0
    """How long to fit; becomes a number of steps when one step was measured, once for each fit."""
    steps: Annotated[int | None, at_least(1)] = None
    """Steps to fit for, whatever time they take."""
    batch: Annotated[int, at_least(1)] = 16
    """Images in a step, over all workers."""
    micro_batch: Annotated[int, at_least(1)] = 16
    """Images that a worker holds the feature maps of at once; fewer take less memory and give the same."""
    tracking: Annotated[str | None, Name()] = None
    """Tracking whose crops are taken; needed where the store holds several of a subject."""
    inversion: Annotated[str | None, Name()] = None
    """Inversion whose latents are the pivots of `generator`; needed where several fit."""
    checkpoints: Annotated[str, Place("folder")] = "runs/fit"
    """Where checkpoints are kept, a local folder or s3://bucket/prefix; a second run goes on from them."""
    checkpoint_every_steps: Annotated[int, at_least(1)] = 100
    """Score the held-out frames, show some of them and keep a checkpoint this often."""
    workers: Annotated[int, at_least(1)] = 1
    """Processes that share each batch."""
    cpus_per_worker: Annotated[int, at_least(1)] = 1
    """Cores of each of them."""
    gpu: bool | None = None
    """Fit on GPUs; by default where the cluster has one for each worker, or has some and grows."""
    machines: Machines = "any"
    """Machines that do the work, in a cluster that labels them `ray.io/market-type`."""
    seed: Annotated[int, SEEDS] = 0
    """Seeds which frames each step sees."""
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


@dataclass(frozen=True)
class DataChoice:
    """Which clips of a store a job takes; None leaves it to what the store holds."""

    subject: Annotated[str | None, Name()] = None
    """Whom to learn; by default the only subject in the store."""
    snapshot: Annotated[str | None, Name()] = None
    """Snapshot to train on, NAME or NAME@GENERATION; by default one is taken of the subject's clips."""
    inversion: Annotated[str | None, Name()] = None
    """Inversion whose latents are taken; needed where the store holds several made with these weights."""
    min_clip_s: Annotated[float, at_least(0)] = 0.0
    """Leave out shorter clips."""
    max_error: Annotated[float | None, at_least(0)] = None
    """Leave out clips with a larger mean reconstruction error."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


@dataclass(frozen=True)
class LearningConfig(DataChoice):
    """What a training and a study are told alike."""

    store: Annotated[str, Place("input")] = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`; must be the pair that made the
    latents."""
    recipe: Literal["demo", "paper", "faces_1024"] = "demo"
    """Preset that `temporal` starts from; flags and file change it field by field."""
    preset: Annotated[str | None, Place("input")] = None
    """JSON file that a study left (`preset.json`): takes the recipe's place."""
    temporal: TemporalConfig = field(default_factory=demo)
    """The temporal GAN and its training; the search of a study changes some of it."""
    machines: Machines = "any"
    """Machines that do the work, in a cluster that labels them `ray.io/market-type`."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""


@dataclass(frozen=True)
class TrainConfig(LearningConfig):
    """Train a temporal GAN on one subject's latents."""

    model: Annotated[str, Place("folder")] = "models/demo"
    """Folder of the trained model, a local one or s3://bucket/prefix."""
    minutes: Annotated[float | None, above(0)] = None
    """Stop after this much training, however many of the steps are done by then."""
    checkpoints: Annotated[str, Place("folder")] = "runs/train"
    """Where checkpoints are kept, a local folder or s3://bucket/prefix; a second run goes on from them."""
    workers: Annotated[int, at_least(1)] = 1
    """Processes that share each batch."""
    cpus_per_worker: Annotated[int, at_least(1)] = 1
    """Cores of each of them: more help large networks, and penalties at every step, where there is no GPU."""
    gpu: bool | None = None
    """Train on GPUs; by default where the cluster has one for each worker, or has some and grows."""
    checkpoint_every_steps: Annotated[int, at_least(1)] = 500
    """A killed training goes on from the last of these."""
    sample_every_steps: Annotated[int, at_least(1)] = 1000
    """Log metrics, a film strip and a video of fixed noises this often, beside the training."""
    sample_seconds: Annotated[float, above(0)] = 4.0
    """Length of those videos."""


@dataclass(frozen=True)
class TuneConfig(LearningConfig):
    """Search for the options of the temporal GAN that move most like the subject."""

    model: Annotated[str, Place("folder")] = "models/demo-tuned"
    """Folder of the best trial's model, a local one or s3://bucket/prefix."""
    out: Annotated[str, Place("file")] = "presets/tuned.json"
    """Preset to write: the best trial's options, as `jobs/train.py --preset` takes them."""
    study: Annotated[str, Name()] = "demo"
    """Name of the study; the same name goes on with the same study."""
    resume: bool = False
    """Insist on going on: an error where no study of that name was begun."""
    study_folder: Annotated[str, Place("folder")] = "runs/tune"
    """Where the state of the study and its checkpoints are kept, a local folder or s3://bucket/prefix."""
    search_storage: Annotated[str, Place("database")] = "sqlite:///optuna.db"
    """Database of the search, without a password in it: sqlite:///FILE, or
    postgresql://USER@HOST/DATABASE?passfile=FILE."""
    trials: Annotated[int, at_least(1)] = 6
    """Trials in all, the recipe itself being the first."""
    enqueue: Annotated[tuple[str, ...], Place("input")] = ()
    """Presets known to be good, which are tried right after the recipe."""
    pareto: bool = False
    """Search for fidelity and drift at once: no trial stops early, and the result is a Pareto front."""
    rungs: Annotated[int, at_least(1)] = 6
    """Measurements of a trial; after each of them the worse half of the trials is stopped early."""
    concurrent_trials: Annotated[int | None, at_least(1)] = None
    """Trials at once; by default as many as the cluster holds."""
    gpus_per_trial: Annotated[float, SHARE] = 0.5
    """Share of a GPU for each trial, in a cluster that has GPUs."""
    seed: Annotated[int, from_to(0, 2**32 - 1)] = 0
    """Seeds the search."""

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
    """Generate videos from a trained model: of its subject, of a photo's person, of somebody in the store."""

    model: Annotated[str, Place("input")] = "models/demo"
    """A trained model: a local folder, s3://bucket/prefix or models:/NAME@champion in MLflow's registry."""
    out: Annotated[str, Place("file")] = "samples/sample.mp4"
    """Video to write; of several samples a folder of that name without .mp4, or s3://bucket/prefix."""
    seed: Annotated[int, SEEDS] = 0
    """Seeds the noise: the same seed gives the same video."""
    seconds: Annotated[float, above(0)] = 10.0
    """Length of a video."""
    samples: Annotated[int, at_least(1)] = 1
    """Videos to make, in parallel; a second run makes those that are missing."""
    grid: bool = False
    """All samples side by side in one video."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`; must be the pair that made the
    latents."""
    photo: Annotated[str | None, Place("input")] = None
    """Who moves instead of the model's subject: the largest face in this picture."""
    faces: Literal["sidecar", "aligned", "mediapipe"] | None = None
    """Where the photo's face is: in landmarks beside it, all over it, or where mediapipe finds it (needs the
    extra `face`); by default the first where there are landmarks, else the last."""
    refine_steps: Annotated[int, at_least(0)] = 100
    """Steps of optimisation of the photo's latents after the encoder, 0 for none."""
    subject: Annotated[str | None, Name()] = None
    """Who moves instead of the model's subject: a subject or clip of the store, or `demo:7`."""
    store: Annotated[str, Place("input")] = "store"
    """Latent store in which the other subject is looked up."""
    strength: Annotated[float, FINITE] = 1.0
    """How far another subject follows the motion."""
    reference: Literal["mean", "first"] = "mean"
    """What of the motion another subject rests at: the mean of the footage, or the first generated frame."""
    layers: Annotated[tuple[int, ...] | None, at_least(0)] = None
    """Style vectors of another subject that move; by default all."""
    truncation: Annotated[float, above(0)] = 1.0
    """Below 1: motion closer to the mean."""
    blend_seed: Annotated[int | None, SEEDS] = None
    """Seed of a second motion, for one between the two."""
    blend: Annotated[float, from_to(0, 1)] = 0.5
    """How far towards it: 0 is the motion of `seed`, 1 that of `blend_seed`."""
    paste_into: Annotated[str | None, Place("input")] = None
    """Video of the subject that takes the generated face in place of its own, along its longest clip in the
    store; it must have been inverted as the model's footage was."""
    batch_frames: Annotated[int, at_least(1)] = 16
    """Frames rendered at once; others change a pixel by one grey level at most."""
    gpus_per_actor: Annotated[float, SHARE] = 0.25
    """Share of a GPU for each renderer of several samples, in a cluster that has GPUs."""
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
        """Whether several samples become a video each."""
        return self.samples > 1 and not self.grid


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure how a model's motion compares with the footage."""

    model: Annotated[str, Place("input")] = "models/demo"
    """A trained model: a local folder, s3://bucket/prefix or models:/NAME@champion in MLflow's registry."""
    store: Annotated[str, Place("input")] = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    subject: Annotated[str | None, Name()] = None
    """Whose footage is the truth; by default the one that the model learnt."""
    snapshot: Annotated[str | None, Name()] = None
    """Held-out footage, NAME or NAME@GENERATION; by default what the model was trained on."""
    seconds: Annotated[float, above(0)] = 66.0
    """Length of each generated sample."""
    samples: Annotated[int, at_least(1)] = 150
    """Generated samples."""
    seed: Annotated[int, SEEDS] = 0
    """Seeds the noise."""
    out: Annotated[str, Place("file")] = "reports/evaluation.json"
    """Report to write."""
    networks: Annotated[str | None, Place("input")] = None
    """Folder of imported networks that look at pictures, any of `i3d` (FVD), `inception` (FID) and `arc_face`
    (identity, ACD); the footage must be where it was inverted from."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder that holds `generator` and `encoder`, or `demo`; what these networks see is made with it."""
    clips: Annotated[int, at_least(1)] = 2048
    """Clips of footage, and as many generated ones, that these networks see."""
    fvd_clips: tuple[Literal["16", "128", "16x8"], ...] = ("16", "128", "16x8")
    """Clips that FVD is measured on: 16 frames, 128, or 16 of every eighth."""
    experiment: Annotated[str, Name()] = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


@dataclass(frozen=True)
class ReplayConfig:
    """Bring what dead or cut-off jobs have told about themselves to MLflow; nothing arrives twice."""

    spool: Annotated[str, Place("input")] = "mlspool"
    """Folder of the events that wait, `mlspool` in the working directory of the job that left them."""
    tracking_uri: Annotated[str | None, Place("database")] = None
    """Server or database that takes them; by default MLFLOW_TRACKING_URI, else mlflow.db here."""

    def __post_init__(self) -> None:
        settle_places(self)
        _require_no_password(self.tracking_uri or "", "tracking_uri", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True)
class DemoConfig:
    """The whole experiment at once: footage, latents, models, new videos, a page that shows them."""

    folder: Annotated[str, Place("folder")] = "demo"
    """Where footage, store, models and videos go."""
    video: Annotated[str | None, Place("input")] = None
    """Your own footage in place of the rendered subjects: a generator is fitted to whom it shows."""
    faces: Literal["sidecar", "aligned", "mediapipe"] | None = None
    """Where the faces of your own footage are; by default in landmarks beside it, where there are any, and
    else where mediapipe finds them (needs the extra `face`)."""
    fit_minutes: Annotated[float, above(0)] = 8.0
    """How long to fit to your own footage."""
    train_minutes: Annotated[float, above(0)] = 6.0
    """How long to train a motion model on your own footage, at most."""
    subjects: Annotated[int, at_least(1)] = 3
    """Rendered subjects."""
    seconds: Annotated[float, above(0)] = 60.0
    """Rendered footage of each subject."""
    experiment: Annotated[str, Name()] = "demo"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


@dataclass(frozen=True)
class DoctorConfig:
    """Check whether jobs can run here: packages, GPU, video, memory, disk, weights, store, MLflow, Ray.

    Prints a line for each check and each machine, with what helps; the exit code is 0 where jobs can run.
    """

    store: Annotated[str, Place("input")] = "store"
    """Latent store that jobs will use, a folder or s3://bucket/prefix; written to and cleaned up again."""
    weights: Annotated[str, Place("input")] = "demo"
    """Folder or s3:// prefix that holds `generator` and `encoder`, or `demo`."""
    free_disk_gb: Annotated[float, above(0)] = 2.0
    """Free space, in GB, that the working directory and the temporary folder need."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """Fields of a config by dotted name, nested ones too: what is printed and logged."""
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
    """Settings are printed, logged and shown among the arguments of processes; so this tells no value."""
    if re.search(r"://[^/@]*:[^/@]*@", address) or re.search(r"[?&]password=", address):
        raise ConfigError(f"{name}: holds a password, which others would see; set it in {place}")
