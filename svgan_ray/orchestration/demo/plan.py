"""The demo's settings for each job; a person could give the same settings on the command lines."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svgan_ray.config import (
    DemoConfig,
    EvaluateConfig,
    FitConfig,
    InvertConfig,
    SampleConfig,
    TrainConfig,
    TuneConfig,
)
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.invert.demo_footage import demo_footage
from svgan_ray.orchestration.invert.plan import inversion_of
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.store.keys import content_id
from svgan_ray.video.landmarks import landmark_source, sidecar_path

__all__ = ["SAMPLE_SECONDS", "DemoPlan", "plan_of"]

SAMPLE_SECONDS = 10.0
SAMPLES, TRANSFERS = 4, 2
TRIAL_STEPS = 600
EVALUATED_SAMPLES, EVALUATED_S = 150, 68.0
"""Samples are long and many enough for windows one minute into a sample."""


@dataclass(frozen=True)
class DemoPlan:
    """The settings of every job, and the places of their results in the demo's folder."""

    folder: Path
    videos: tuple[Path, ...]
    subject: str
    other: str
    """The subject that the motion is transferred to; empty if there is none."""
    invert: InvertConfig
    train: TrainConfig
    tune: TuneConfig | None
    """None for a user's own footage, because the fit takes the time of a study."""
    samples: tuple[SampleConfig, ...]
    """Samples of the subject."""
    transfers: tuple[SampleConfig, ...]
    """Samples of the other subject with the subject's motion."""
    evaluate: EvaluateConfig
    settings: dict[str, Any]
    """The settings that must be the same for everything in one folder."""
    rendered_s: tuple[float, ...]
    """The length of each rendered video; empty for a user's own footage."""
    track: InvertConfig | None = None
    fit: FitConfig | None = None
    """The fit of weights to the subject, for a user's own footage."""

    @property
    def inversion_id(self) -> str:
        """The id of the inversion, whose weights must exist."""
        return inversion_of(self.invert, self.invert.store).inversion_id


def plan_of(config: DemoConfig) -> DemoPlan:
    """Resolve all settings before anything is done. Raises ConfigError, WeightsError."""
    own = _own_video(config)
    return _own_plan(config, own) if own else _rendered_plan(config)


def _rendered_plan(config: DemoConfig) -> DemoPlan:
    folder = Path(durable(config.folder, "--folder"))
    videos = tuple(demo_footage(False, str(folder / "footage"), config.subjects, config.seconds))
    other = videos[1].stem if len(videos) > 1 else "demo:2"
    lengths_s = (config.seconds, *(config.subjects - 1) * [_others_s(config)])
    invert = InvertConfig(
        videos=tuple(map(str, videos)), store=str(folder / "store"), experiment=config.experiment
    )
    inversion_id = inversion_of(invert, invert.store).inversion_id
    train = dataclasses.replace(_train_config(config, folder, videos[0].stem), inversion=inversion_id)
    return DemoPlan(
        folder=folder,
        videos=videos,
        subject=videos[0].stem,
        other=other,
        invert=invert,
        train=train,
        tune=_tune_config(train, folder),
        samples=_samples(train, folder),
        transfers=_transfers(train, folder, other),
        evaluate=_evaluate_config(train, folder),
        settings={"subjects": config.subjects, "seconds": config.seconds},
        rendered_s=lengths_s,
    )


def _others_s(config: DemoConfig) -> float:
    """The length of the other subjects' footage, of which the page shows as much as of a sample."""
    return max(config.seconds / 4, min(config.seconds, SAMPLE_SECONDS))


def _own_plan(config: DemoConfig, own: Path) -> DemoPlan:
    """The plan for a user's own footage; all jobs use weights that are first fitted to it."""
    folder = Path(durable(config.folder, "--folder")) / f"own-{own.stem}"
    faces = config.faces or ("sidecar" if sidecar_path(own).exists() else "mediapipe")
    landmark_source(faces)  # which says now where mediapipe is missing
    weights, store = str(folder / "weights"), str(folder / "store")
    track = InvertConfig(
        videos=(str(own),), store=store, faces=faces, until="tracks", experiment=config.experiment
    )
    subject = own.stem
    train = dataclasses.replace(
        _train_config(config, folder, subject),
        weights=weights,
        minutes=config.train_minutes,
        sample_every_steps=2 * TrainConfig.sample_every_steps,
    )
    return DemoPlan(
        folder=folder,
        videos=(own,),
        subject=subject,
        other="",
        invert=dataclasses.replace(track, until="latents", weights=weights),
        train=train,
        tune=None,
        samples=tuple(dataclasses.replace(s, weights=weights) for s in _samples(train, folder)),
        transfers=(),
        evaluate=dataclasses.replace(_evaluate_config(train, folder), weights=weights),
        settings=_own_settings(own) | {"faces": faces, "fit_minutes": config.fit_minutes},
        rendered_s=(),
        track=track,
        fit=FitConfig(
            store=store,
            subject=subject,
            out=weights,
            minutes=config.fit_minutes,
            checkpoints=str(folder / "checkpoints"),
            workers=min(2, os.cpu_count() or 1),
            experiment=config.experiment,
        ),
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


def _train_config(config: DemoConfig, folder: Path, subject: str) -> TrainConfig:
    return TrainConfig(
        store=str(folder / "store"),
        subject=subject,
        model=str(folder / "models" / subject),
        checkpoints=str(folder / "checkpoints"),
        experiment=config.experiment,
    )


def _evaluate_config(train: TrainConfig, folder: Path) -> EvaluateConfig:
    return EvaluateConfig(
        model=train.model,
        store=train.store,
        samples=EVALUATED_SAMPLES,
        seconds=EVALUATED_S,
        out=str(folder / "evaluation.json"),
        experiment=train.experiment,
    )


def _tune_config(train: TrainConfig, folder: Path) -> TuneConfig:
    temporal = dataclasses.replace(train.temporal, steps=TRIAL_STEPS)
    # A study keeps the settings that it began with, so other latents or options need another study.
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


def _sample_config(train: TrainConfig, folder: Path, name: str, seed: int) -> SampleConfig:
    return SampleConfig(
        model=train.model,
        store=train.store,
        seconds=SAMPLE_SECONDS,
        seed=seed,
        out=str(folder / "samples" / f"{name}-seed-{seed}.mp4"),
        experiment=train.experiment,
    )


def _samples(train: TrainConfig, folder: Path) -> tuple[SampleConfig, ...]:
    return tuple(_sample_config(train, folder, str(train.subject), seed) for seed in range(SAMPLES))


def _transfers(train: TrainConfig, folder: Path, other: str) -> tuple[SampleConfig, ...]:
    configs = (_sample_config(train, folder, other.replace(":", "-"), seed) for seed in range(TRANSFERS))
    return tuple(dataclasses.replace(config, subject=other) for config in configs)
