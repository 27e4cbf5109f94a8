"""What the demo asks of each job: the same settings that a person could give on the command lines."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svgan_ray.config import DemoConfig, EvaluateConfig, InvertConfig, SampleConfig, TrainConfig, TuneConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.plan import inversion_of
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.store.keys import content_id
from svgan_ray.video.landmarks import sidecar_path

__all__ = ["SAMPLE_SECONDS", "DemoPlan", "plan_of"]

SAMPLE_SECONDS = 10.0
SAMPLES, TRANSFERS = 4, 2
TRIAL_STEPS = 600
EVALUATED_SAMPLES, EVALUATED_S = 150, 68.0
"""Windows a minute into a sample, and enough of them."""


@dataclass(frozen=True)
class DemoPlan:
    """Settings of every job, and where things lie in the demo's folder."""

    folder: Path
    videos: tuple[Path, ...]
    subject: str
    other: str
    inversion_id: str
    invert: InvertConfig
    train: TrainConfig
    tune: TuneConfig
    samples: tuple[SampleConfig, ...]
    """Of the subject."""
    transfers: tuple[SampleConfig, ...]
    """Of the other subject, moved by the subject's motion."""
    evaluate: EvaluateConfig
    settings: dict[str, Any]
    """What one folder must have been made with throughout."""
    remarks: tuple[str, ...]
    """What to know before somebody's own footage is inverted with the demo's weights."""
    rendered: DemoConfig | None
    """Asks for the footage; None where it is somebody's own."""


def plan_of(config: DemoConfig) -> DemoPlan:
    """Settle everything before anything is done. Raises ConfigError, WeightsError."""
    own = _own_video(config)
    folder = Path(durable(config.folder, "--folder"))
    folder = folder / f"own-{own.stem}" if own else folder
    videos = (own,) if own else _rendered(config, folder)
    subject = videos[0].stem
    other = videos[1].stem if len(videos) > 1 else "demo:2"
    invert = _invert_config(config, folder, videos, own)
    inversion_id = inversion_of(invert, invert.store).inversion_id
    train = _train_config(config, folder, subject, inversion_id)
    samples, transfers = _sample_configs(train, folder, other)
    return DemoPlan(
        folder=folder,
        videos=videos,
        subject=subject,
        other=other,
        inversion_id=inversion_id,
        invert=invert,
        train=train,
        tune=_tune_config(train, folder),
        samples=samples,
        transfers=transfers,
        evaluate=EvaluateConfig(
            model=train.model,
            store=train.store,
            samples=EVALUATED_SAMPLES,
            seconds=EVALUATED_S,
            out=str(folder / "evaluation.json"),
            experiment=config.experiment,
        ),
        settings=_own_settings(own) if own else {"subjects": config.subjects, "seconds": config.seconds},
        remarks=_remarks_on(own) if own else (),
        rendered=None if own else config,
    )


def _own_video(config: DemoConfig) -> Path | None:
    if config.video is None:
        return None
    path = Path(config.video).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"--video {config.video}: no such file")
    return path


def _own_settings(own: Path) -> dict[str, Any]:
    status = own.stat()
    return {"video": str(own), "size_bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _remarks_on(own: Path) -> tuple[str, ...]:
    sidecar = sidecar_path(own)
    faces = f"{sidecar.name} beside the video says where the face is."
    if not sidecar.exists():
        faces = (
            f"There is no {sidecar.name} beside the video, so its frames are taken as aligned: the centre "
            "square of each should be filled by the face as training portraits are, eyes level."
        )
    return (
        "The demo's weights know drawn portraits of 128 pixels and nothing else. They cannot draw a "
        "photographed face: what comes out is the drawn portrait that the encoder takes for the nearest.",
        "What may carry over is motion (turning, nodding, mouth, eyelids), as far as an encoder that has "
        "never seen a photograph can read it. The reconstruction beside the footage shows how far that is.",
        "With footage of drawn portraits, such as the demo's own, everything works as in the demo.",
        "For photographed faces, give the jobs a generator and an encoder trained on such (--weights).",
        faces,
    )


def _rendered(config: DemoConfig, folder: Path) -> tuple[Path, ...]:
    place = str(folder / "footage")
    return tuple(demo_footage(False, place, config.subjects, config.seconds))


def _invert_config(
    config: DemoConfig, folder: Path, videos: tuple[Path, ...], own: Path | None
) -> InvertConfig:
    return InvertConfig(
        videos=tuple(map(str, videos)),
        store=str(folder / "store"),
        faces="aligned" if own and not sidecar_path(own).exists() else "sidecar",
        experiment=config.experiment,
    )


def _train_config(config: DemoConfig, folder: Path, subject: str, inversion_id: str) -> TrainConfig:
    return TrainConfig(
        store=str(folder / "store"),
        subject=subject,
        inversion=inversion_id,
        model=str(folder / "models" / subject),
        checkpoints=str(folder / "checkpoints"),
        experiment=config.experiment,
    )


def _tune_config(train: TrainConfig, folder: Path) -> TuneConfig:
    temporal = dataclasses.replace(train.temporal, steps=TRIAL_STEPS)
    # A study holds to what it began with: other latents or options are another study.
    return TuneConfig(
        store=train.store,
        subject=train.subject,
        inversion=train.inversion,
        model=f"{train.model}-tuned",
        out=str(folder / "preset.json"),
        study=f"demo-{content_id({'inversion': train.inversion, **temporal.to_dict()})[:8]}",
        study_folder=str(folder / "study"),
        search_storage=f"sqlite:///{folder / 'optuna.db'}",
        temporal=temporal,
        experiment=train.experiment,
    )


def _sample_configs(
    train: TrainConfig, folder: Path, other: str
) -> tuple[tuple[SampleConfig, ...], tuple[SampleConfig, ...]]:
    base = SampleConfig(
        model=train.model, store=train.store, seconds=SAMPLE_SECONDS, experiment=train.experiment
    )
    own = tuple(
        dataclasses.replace(base, seed=seed, out=str(folder / "samples" / f"{train.subject}-seed-{seed}.mp4"))
        for seed in range(SAMPLES)
    )
    name = other.replace(":", "-")
    moved = tuple(
        dataclasses.replace(
            base, seed=seed, subject=other, out=str(folder / "samples" / f"{name}-seed-{seed}.mp4")
        )
        for seed in range(TRANSFERS)
    )
    return own, moved
