"""Settings of the jobs that use a trained model: sampling from it, and evaluating it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from svgan_ray.config.common import FINITE, SEEDS, SHARE, require
from svgan_ray.places import Name, Place, settle_places
from svgan_ray.ranges import above, at_least, check_ranges, from_to

__all__ = ["EvaluateConfig", "SampleConfig"]


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
        require(self.photo is None or self.subject is None, "photo", "none beside a subject", self.photo)
        alone = self.photo is None and self.samples == 1
        require(alone or self.paste_into is None, "paste_into", "one sample and no photo", self.paste_into)

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
