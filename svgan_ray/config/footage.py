"""Settings of the jobs that work on footage: inverting it, and fitting networks to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from svgan_ray.config.common import SEEDS, SHARE, Machines, require
from svgan_ray.places import Name, Place, settle_places
from svgan_ray.ranges import above, at_least, check_ranges, from_to

__all__ = ["FitConfig", "InvertConfig"]


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
        require(is_rank or self.people in ("longest", "all"), "people", whom, self.people)
        own_model = self.face_model is None or self.faces == "mediapipe"
        require(own_model, "face_model", "none unless faces is mediapipe", self.face_model)
        require(self.videos, "videos", "at least one file, folder, glob or s3:// prefix", self.videos)
        lpips_is_used = self.refine_lpips is None or self.refine_steps > 0
        require(lpips_is_used, "refine_lpips", "none unless refine_steps is above 0", self.refine_lpips)
        expected = "a number from 1, such as 4, or a range, such as 1:32"
        require(self.actors is None or self.actor_range, "actors", expected, self.actors)

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
        require(self.subject is None or self.subjects, "subject", "a name, or several", self.subject)
        fed = f"at most {self.batch}, the batch"
        require(self.workers <= self.batch, "workers", fed, self.workers)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names, each once."""
        return tuple(dict.fromkeys(name.strip() for name in (self.subject or "").split(",") if name.strip()))
