"""The experiment file, `experiment.toml`, sets the fields of a job's config that no flag sets.

A key before the first section applies to every job that has such a field; a section applies to the job of its
name:

    store = "store"
    [train]
    recipe = "demo"
    [train.temporal]
    steps = 1000
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from svgan_ray.config import (
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    FitConfig,
    InvertConfig,
    ReplayConfig,
    SampleConfig,
    TrainConfig,
    TuneConfig,
)
from svgan_ray.decoding import DecodingError, decode, require_known
from svgan_ray.errors import ConfigError
from svgan_ray.former_names import current_names
from svgan_ray.temporal.recipes import RECIPES, TemporalConfig

Config = TypeVar("Config")

SECTIONS: dict[str, type[Any]] = {
    "invert": InvertConfig,
    "fit": FitConfig,
    "train": TrainConfig,
    "tune": TuneConfig,
    "sample": SampleConfig,
    "evaluate": EvaluateConfig,
    "replay": ReplayConfig,
    "demo": DemoConfig,
    "doctor": DoctorConfig,
}


@dataclass(frozen=True)
class ExperimentFile:
    """The content of an experiment file whose keys and sections were checked."""

    path: Path
    shared: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]

    def config(
        self, config_type: type[Config], recipe: str | None = None, preset: str | None = None
    ) -> Config:
        """The config of a job. The file overrides defaults, the flags `recipe` and `preset` override it."""
        section = next(name for name, cls in SECTIONS.items() if cls is config_type)
        known = {f.name for f in dataclasses.fields(config_type)}  # type: ignore[arg-type]
        own = current_names(config_type, self.sections.get(section, {}))
        values = {k: v for k, v in self.shared.items() if k in known} | own
        if "recipe" in known:
            values |= {name: flag for name, flag in (("recipe", recipe), ("preset", preset)) if flag}
            preset = values.get("preset")
            base = load_preset(preset) if preset else _recipe(values.get("recipe", "demo"))
            where = f"{self.path.name}: [{section}.temporal]"
            values["temporal"] = _decoded(TemporalConfig, values.get("temporal", {}), where, base)
        config: Config = _decoded(config_type, values, f"{self.path.name}: [{section}]")
        return config


def load_experiment_file(path: str | Path, must_exist: bool = False) -> ExperimentFile:
    """Read an experiment file; a missing file counts as empty unless it must exist. Raises ConfigError."""
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")  # editors on Windows begin a file with a mark of its encoding
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        if must_exist:
            raise ConfigError(f"--experiment-file {path}: no such file") from error
        document = {}
    except OSError as error:
        raise ConfigError(f"experiment file {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    sections = {name: values for name, values in document.items() if isinstance(values, dict)}
    shared = {name: value for name, value in document.items() if name not in sections}
    _require_known(sections, SECTIONS, f"{path.name}: there is no section")
    shareable = {f.name for cls in SECTIONS.values() for f in dataclasses.fields(cls)}
    _require_known(shared, shareable, f"{path.name}: no job has the key")
    experiment = ExperimentFile(path, shared, sections)
    for config_type in SECTIONS.values():  # a mistake in another job's section is reported now, not later
        experiment.config(config_type)
    return experiment


def _recipe(name: object) -> TemporalConfig:
    if name not in RECIPES:
        raise ConfigError(f"recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[str(name)]()


def load_preset(path: object) -> TemporalConfig:
    """The preset that a study wrote: a recipe with some options changed. Raises ConfigError."""
    try:
        document = json.loads(Path(str(path)).read_text("utf-8"))
        recipe, changes = document["recipe"], document["temporal"]
    except OSError as error:
        raise ConfigError(f"preset {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'preset {path}: expected JSON with "recipe" and "temporal", as a study writes it ({error})'
        ) from error
    changed: TemporalConfig = _decoded(TemporalConfig, changes, f"preset {path}: temporal", _recipe(recipe))
    return changed


def _decoded(hint: Any, values: Any, where: str, base: Any = None) -> Any:
    """The values of a file as a config, or `base` changed by them. Raises ConfigError."""
    try:
        return decode(hint, values, base=base)
    except (DecodingError, ConfigError) as error:
        raise ConfigError(f"{where} {error}") from error


def _require_known(names: Iterable[str], known: Iterable[str], complaint: str) -> None:
    try:
        require_known(names, known, complaint)
    except DecodingError as error:
        raise ConfigError(str(error)) from error
