"""What each job can be told: one frozen dataclass a job, and the experiment file that fills them.

Precedence: flags of the command line, then `experiment.toml`, then the defaults below. In the file a key
before the first section goes to every job that has such a field, a section to the job of its name:

    store = "store"
    [train]
    recipe = "demo"
    [train.temporal]
    steps = 1000
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from svgan_ray.errors import ConfigError
from svgan_ray.temporal.recipes import RECIPES, TemporalConfig, demo

__all__ = [
    "DemoConfig",
    "EvaluateConfig",
    "Experiment",
    "InvertConfig",
    "SampleConfig",
    "TrainConfig",
    "TuneConfig",
    "flatten",
    "load_experiment",
]

Config = TypeVar("Config")


@dataclass(frozen=True)
class InvertConfig:
    """Turn footage into latents: track, crop, encode, commit to the store."""

    videos: tuple[str, ...] = ("demo",)
    """Files, folders, globs or s3:// prefixes; `demo` renders the demo's subjects first."""
    store: str = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    weights: str = "demo"
    """Folder that holds `generator` and `encoder`, or `demo`."""
    faces: Literal["sidecar", "aligned"] = "sidecar"
    """Where faces are: landmarks in `<video>.landmarks.safetensors`, or footage that is aligned already."""
    subject: str | None = None
    """Whom the footage shows; by default each video's file name without its ending."""
    batch_frames: int = 16
    """Frames that the encoder takes at once; part of the identity of the result."""
    error_every_frames: int = 25
    """Measure the reconstruction error of every n-th frame; part of the identity of the result."""
    actors: int | None = None
    """Encoders at work at once; by default as many as the cluster holds."""
    gpus_per_actor: float = 0.25
    """Share of a GPU for each encoder, in a cluster that has GPUs."""
    retry_failures: bool = False
    """Try again what failed in earlier runs."""
    max_failure_fraction: float = 0.5
    """The job fails when more than this share of the videos fails."""
    experiment: str = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        _require(self.videos, "videos", "at least one file, folder, glob or s3:// prefix", self.videos)
        _require_positive(self, "batch_frames", "error_every_frames", "gpus_per_actor")
        _require(self.actors is None or self.actors >= 1, "actors", "1 or more", self.actors)
        _require_share(self, "max_failure_fraction")


@dataclass(frozen=True)
class TrainConfig:
    """Train a temporal GAN on one subject's latents."""

    store: str = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    subject: str | None = None
    """Whom to learn; by default the only subject in the store."""
    snapshot: str | None = None
    """Snapshot to train on, NAME or NAME@GENERATION; by default one is taken of the subject's clips."""
    inversion: str | None = None
    """Inversion whose latents are taken; needed where the store holds several made with these weights."""
    min_clip_s: float = 0.0
    """Leave out shorter clips."""
    max_error: float | None = None
    """Leave out clips with a larger mean reconstruction error."""
    weights: str = "demo"
    """Folder that holds `generator` and `encoder`, or `demo`; must be the pair that made the latents."""
    model: str = "models/demo"
    """Folder of the trained model, a local one or s3://bucket/prefix."""
    recipe: Literal["demo", "paper", "faces_1024"] = "demo"
    """Preset that `temporal` starts from; flags and file change it field by field."""
    preset: str | None = None
    """JSON file that a study left (`preset.json`): takes the recipe's place."""
    temporal: TemporalConfig = field(default_factory=demo)
    """The temporal GAN and its training."""
    minutes: float | None = None
    """Stop after this much training, however many of the steps are done by then."""
    checkpoints: str = "runs/train"
    """Where checkpoints are kept, a local folder or s3://bucket/prefix; a second run goes on from them."""
    workers: int = 1
    """Processes that share each batch."""
    gpu: bool | None = None
    """Train on GPUs; by default where the cluster has one for each worker."""
    checkpoint_every_steps: int = 500
    """A killed training goes on from the last of these."""
    sample_every_steps: int = 1000
    """Log metrics, a film strip and a video of fixed noises this often, beside the training."""
    sample_seconds: float = 4.0
    """Length of those videos."""
    experiment: str = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        _require_positive(self, "workers", "checkpoint_every_steps", "sample_every_steps", "sample_seconds")
        _require(self.minutes is None or self.minutes > 0, "minutes", "a number above 0", self.minutes)


@dataclass(frozen=True)
class TuneConfig:
    """Search for the options of the temporal GAN that move most like the subject."""

    store: str = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    subject: str | None = None
    """Whom to learn; by default the only subject in the store."""
    snapshot: str | None = None
    """Snapshot to train on, NAME or NAME@GENERATION; by default one is taken of the subject's clips."""
    inversion: str | None = None
    """Inversion whose latents are taken; needed where the store holds several made with these weights."""
    min_clip_s: float = 0.0
    """Leave out shorter clips."""
    max_error: float | None = None
    """Leave out clips with a larger mean reconstruction error."""
    weights: str = "demo"
    """Folder that holds `generator` and `encoder`, or `demo`; must be the pair that made the latents."""
    model: str = "models/demo-tuned"
    """Folder of the best trial's model, a local one or s3://bucket/prefix."""
    out: str = "presets/tuned.json"
    """Preset to write: the best trial's options, as `jobs/train.py --preset` takes them."""
    study: str = "demo"
    """Name of the study; the same name goes on with the same study."""
    study_folder: str = "runs/tune"
    """Where the state of the study and its checkpoints are kept, a local folder or s3://bucket/prefix."""
    search_storage: str = "sqlite:///optuna.db"
    """Database of the search, as Optuna names it (SQLite, PostgreSQL, MySQL)."""
    recipe: Literal["demo", "paper", "faces_1024"] = "demo"
    """Preset that `temporal` starts from; flags and file change it field by field."""
    preset: str | None = None
    """JSON file that a study left (`preset.json`): takes the recipe's place."""
    temporal: TemporalConfig = field(default_factory=demo)
    """What the trials share; the search changes some of it."""
    trials: int = 6
    """Trials in all, the recipe itself being the first."""
    evaluations: int = 6
    """Times that a trial is measured; after each the worse ones are stopped early."""
    concurrent_trials: int | None = None
    """Trials at once; by default as many as the cluster holds."""
    gpus_per_trial: float = 0.5
    """Share of a GPU for each trial, in a cluster that has GPUs."""
    seed: int = 0
    """Seeds the search."""
    experiment: str = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        _require_positive(self, "trials", "evaluations", "gpus_per_trial")
        at_once = self.concurrent_trials
        _require(at_once is None or at_once >= 1, "concurrent_trials", "1 or more", at_once)


@dataclass(frozen=True)
class SampleConfig:
    """Generate a video from a trained model."""

    model: str = "models/demo"
    """Folder of a trained model, a local one or s3://bucket/prefix."""
    out: str = "samples/sample.mp4"
    """Video to write."""
    seed: int = 0
    """Seeds the noise: the same seed gives the same video."""
    seconds: float = 10.0
    """Length of the video."""
    weights: str = "demo"
    """Folder that holds `generator` and `encoder`, or `demo`; must be the pair that made the latents."""
    subject: str | None = None
    """Who moves instead of the model's subject: a picture, a subject or clip of the store, or `demo:7`."""
    store: str = "store"
    """Latent store in which the other subject is looked up."""
    strength: float = 1.0
    """How far another subject follows the motion."""
    layers: tuple[int, ...] | None = None
    """Style vectors of another subject that move; by default all."""
    truncation: float = 1.0
    """Below 1: motion closer to the mean."""
    experiment: str = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        _require_positive(self, "seconds", "truncation")


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure how a model's motion compares with the footage."""

    model: str = "models/demo"
    """Folder of a trained model, a local one or s3://bucket/prefix."""
    store: str = "store"
    """Latent store: a folder or s3://bucket/prefix."""
    subject: str | None = None
    """Whose footage is the truth; by default the one that the model learnt."""
    snapshot: str | None = None
    """Held-out footage, NAME or NAME@GENERATION; by default what the model was trained on."""
    seconds: float = 66.0
    """Length of each generated sample."""
    samples: int = 150
    """Generated samples."""
    seed: int = 0
    """Seeds the noise."""
    out: str = "reports/evaluation.json"
    """Report to write."""
    experiment: str = "svgan-ray"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        _require_positive(self, "seconds", "samples")


@dataclass(frozen=True)
class DemoConfig:
    """The whole experiment at once: footage, latents, models, new videos, a page that shows them."""

    folder: str = "demo"
    """Where footage, store, models and videos go."""
    video: str | None = None
    """Your own footage (aligned, or with landmarks beside it) in place of the rendered subjects."""
    subjects: int = 3
    """Rendered subjects."""
    seconds: float = 60.0
    """Rendered footage of each subject."""
    experiment: str = "demo"
    """Experiment in MLflow."""

    def __post_init__(self) -> None:
        _require_positive(self, "subjects", "seconds")


SECTIONS: dict[str, type[Any]] = {
    "invert": InvertConfig,
    "train": TrainConfig,
    "tune": TuneConfig,
    "sample": SampleConfig,
    "evaluate": EvaluateConfig,
    "demo": DemoConfig,
}


@dataclass(frozen=True)
class Experiment:
    """The content of an experiment file, keys and sections known to be right."""

    path: Path
    shared: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]

    def config(
        self, config_type: type[Config], recipe: str | None = None, preset: str | None = None
    ) -> Config:
        """The config of a job: the file over the defaults, `recipe` and `preset` (flags) over the file."""
        section = next(name for name, cls in SECTIONS.items() if cls is config_type)
        known = {f.name for f in dataclasses.fields(config_type)}  # type: ignore[arg-type]
        values = {k: v for k, v in self.shared.items() if k in known} | dict(self.sections.get(section, {}))
        if "recipe" in known:
            values |= {name: flag for name, flag in (("recipe", recipe), ("preset", preset)) if flag}
            base = _preset(values["preset"]) if "preset" in values else _recipe(values.get("recipe", "demo"))
            where = f"{self.path.name}: [{section}.temporal]"
            values["temporal"] = _override(base, values.get("temporal", {}), where)
        return _build(config_type, values, f"{self.path.name}: [{section}]")


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment file; one that does not exist is an empty one. Raises ConfigError."""
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    sections = {name: values for name, values in document.items() if isinstance(values, dict)}
    shared = {name: value for name, value in document.items() if name not in sections}
    _require_known(sections, SECTIONS, f"{path.name}: there is no section")
    shareable = {f.name for cls in SECTIONS.values() for f in dataclasses.fields(cls)}
    _require_known(shared, shareable, f"{path.name}: no job has the key")
    experiment = Experiment(path, shared, sections)
    for config_type in SECTIONS.values():  # a mistake in another job's section is better found now
        experiment.config(config_type)
    return experiment


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


def _recipe(name: object) -> TemporalConfig:
    if name not in RECIPES:
        raise ConfigError(f"recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[str(name)]()


def _preset(path: object) -> TemporalConfig:
    """What the search of a study found: a recipe and what differs from it."""
    try:
        document = json.loads(Path(str(path)).read_text("utf-8"))
        recipe, changes = document["recipe"], document["temporal"]
    except OSError as error:
        raise ConfigError(f"preset {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'preset {path}: expected JSON with "recipe" and "temporal", as a study writes it ({error})'
        ) from error
    changed: TemporalConfig = _override(_recipe(recipe), changes, f"preset {path}: temporal")
    return changed


def _override(base: Any, overrides: Any, where: str) -> Any:
    """A dataclass with some fields replaced, nested ones by nested tables."""
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"{where}: expected a table, got {overrides!r}")
    _require_known(overrides, {f.name for f in dataclasses.fields(base)}, f"{where} has no key")
    hints = get_type_hints(type(base))
    changes = {}
    for name, value in overrides.items():
        old, place = getattr(base, name), f"{where} {name}"
        nested = dataclasses.is_dataclass(old)
        changes[name] = _override(old, value, place) if nested else _value(hints[name], value, place)
    return dataclasses.replace(base, **changes)


def _build(config_type: type[Config], values: Mapping[str, Any], where: str) -> Config:
    hints = get_type_hints(config_type)
    _require_known(values, hints, f"{where} has no key")
    try:
        return config_type(**{name: _value(hints[name], v, f"{where} {name}") for name, v in values.items()})
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where} {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """A TOML value as the field's type wants it: lists become tuples, whole numbers floats."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list):
        hints = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(hints) == len(value):
            return tuple(
                _value(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True))
            )
    elif origin is Literal:
        if value in arguments:
            return value
        hint = "one of " + ", ".join(map(str, arguments))
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif (isinstance(hint, type) and type(value) is hint) or dataclasses.is_dataclass(value):
        return value
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")


def _require_known(names: Iterable[str], known: Iterable[str], complaint: str) -> None:
    known = sorted(known)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
            raise ConfigError(f"{complaint} {name!r}; {hint}")


def _require(condition: object, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{name}: expected {expected}, got {got!r}")


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(math.isfinite(value) and value > 0, name, "a number above 0", value)


def _require_share(config: object, name: str) -> None:
    value = getattr(config, name)
    _require(0 <= value <= 1, name, "a number from 0 to 1", value)
