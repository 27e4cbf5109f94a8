"""Settings of the jobs around the others: the demo, the doctor, and the delivery of waiting events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from svgan_ray.config.common import require_no_password
from svgan_ray.places import Name, Place, settle_places
from svgan_ray.ranges import above, at_least, check_ranges

__all__ = ["DemoConfig", "DoctorConfig", "ReplayConfig"]


@dataclass(frozen=True)
class DemoConfig:
    """The whole method at once: footage, latents, models, new videos, a page that shows them."""

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
        require_no_password(self.tracking_uri or "", "tracking_uri", "MLFLOW_TRACKING_PASSWORD")
