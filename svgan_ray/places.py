"""Settings that name a place or a thing: declared in their types, checked when a config is made.

    @dataclass(frozen=True)
    class Options:
        store: Annotated[str, Place("input")] = "store"
        out: Annotated[str, Place("file")] = "report.json"
        study: Annotated[str, Name()] = "demo"

        def __post_init__(self) -> None:
            settle_places(self)

In every place, `~` means the home folder and `$VAR` or `${VAR}` an environment variable, as in a shell; a
path that exists exactly as written is not expanded. Before a job begins, it checks that its places can be
written (`svgan_ray.orchestration.runtime.outputs`).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from svgan_ray.errors import ConfigError

__all__ = ["Name", "Place", "declared", "expanded", "settle_places"]

Use = Literal["input", "file", "folder", "database"]

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Place:
    """A path or URI that is read (`input`), or where a file, a folder or a database is written."""

    use: Use


@dataclass(frozen=True)
class Name:
    """The name of a thing, such as a subject, a snapshot or a study."""


def declared(config_type: Any) -> dict[str, Place | Name]:
    """The fields of a dataclass that name a place or a thing, without those of nested dataclasses."""
    hints = get_type_hints(config_type, include_extras=True)
    found: dict[str, Place | Name] = {}
    for field in dataclasses.fields(config_type):
        if get_origin(hints[field.name]) is Annotated:
            marks = [mark for mark in get_args(hints[field.name])[1:] if isinstance(mark, Place | Name)]
            if marks:
                found[field.name] = marks[0]
    return found


def settle_places(config: Any) -> None:
    """Expand the places of a new config. Raises ConfigError for a value that cannot be a place or a name."""
    for name, mark in declared(type(config)).items():
        value = getattr(config, name)
        settle = functools.partial(_settled, field=name, change=expanded if isinstance(mark, Place) else None)
        if isinstance(value, tuple):
            object.__setattr__(config, name, tuple(map(settle, value)))
        elif value is not None:
            object.__setattr__(config, name, settle(value))


def expanded(place: str) -> str:
    """A place with `~` and variables replaced. Raises ConfigError for a variable that is not set."""
    if os.path.lexists(place):
        return place
    prefix = _SQLITE if place.startswith(_SQLITE) else ""
    path = os.path.expanduser(os.path.expandvars(place.removeprefix(prefix)))
    if left := _VARIABLE.search(path):
        raise ConfigError(f"the environment variable {left.group()} is not set, got {place!r}")
    return prefix + path


def _settled(value: str, field: str, change: Callable[[str], str] | None) -> str:
    if not value.strip():
        raise ConfigError(f"{field}: expected a {'path or URI' if change else 'name'}, got {value!r}")
    if not _is_printable(value):
        raise ConfigError(f"{field}: expected UTF-8 text without control characters, got {value!r}")
    try:
        return change(value) if change else value
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error


def _is_printable(text: str) -> bool:
    """No control characters, and no bytes that Python could not read as UTF-8."""
    codes = map(ord, text)
    return not any(code < 32 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 for code in codes)
