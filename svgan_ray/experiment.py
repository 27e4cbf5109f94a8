"""The experiment file, `experiment.toml`: what fills a job's config where no flag does.

A key before the first section goes to every job that has such a field, a section to the job of its name:

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
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from svgan_ray.config import (
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    InvertConfig,
    ReplayConfig,
    SampleConfig,
    TrainConfig,
    TuneConfig,
)
from svgan_ray.errors import ConfigError
from svgan_ray.temporal.recipes import RECIPES, TemporalConfig

Config = TypeVar("Config")

SECTIONS: dict[str, type[Any]] = {
    "invert": InvertConfig,
    "train": TrainConfig,
    "tune": TuneConfig,
    "sample": SampleConfig,
    "evaluate": EvaluateConfig,
    "replay": ReplayConfig,
    "demo": DemoConfig,
    "doctor": DoctorConfig,
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
            preset = values.get("preset")
            base = load_preset(preset) if preset else _recipe(values.get("recipe", "demo"))
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


def _recipe(name: object) -> TemporalConfig:
    if name not in RECIPES:
        raise ConfigError(f"recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[str(name)]()


def load_preset(path: object) -> TemporalConfig:
    """What the search of a study found: a recipe and what differs from it. Raises ConfigError."""
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
    try:
        return dataclasses.replace(base, **changes)
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error


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
