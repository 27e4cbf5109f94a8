"""Decodes JSON and TOML into typed dataclasses: settings, presets, records and network options.

A field's type decides which values it accepts: bool, int, float, str, dict, a Literal, a tuple (a list in the
file), another dataclass (a table), a union of these, or `Any`. Whole numbers become floats if the type is
float; nothing else is converted. A table may use former names of its fields (`svgan_ray.former_names`).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from svgan_ray.former_names import current_names

__all__ = ["DecodingError", "decode", "require_known"]

_SHOWN_CHARACTERS = 200


class DecodingError(ValueError):
    """A value is not of the type that its field takes, or a table has a key that is not known."""


def decode(
    hint: Any, value: Any, path: str = "", base: Any = None, complete: bool = False, ranged: bool = False
) -> Any:
    """Convert the value to the type `hint`.

    Raises DecodingError, which names the field by its dotted `path`, and whatever the dataclasses raise. If
    `base`, a dataclass, is given, a table changes only the fields that it names. If `complete`, a table must
    name every field of its dataclass, otherwise only the fields without a default. A `ranged` number may be
    fractional although the type is int: the check of ranges (`svgan_ray.ranges`) rejects it later, with a
    message that also names the range.
    """
    if get_origin(hint) is Annotated:
        return decode(get_args(hint)[0], value, path, base, complete, ranged=True)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _table(hint, value, path, base, complete)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _either(hint, value, path, complete, ranged)
    if origin is tuple and isinstance(value, list | tuple):
        hints = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(hints) == len(value):
            pairs = enumerate(zip(hints, value, strict=True))
            return tuple(decode(h, v, f"{path}[{i}]", None, complete, ranged) for i, (h, v) in pairs)
    elif _takes(float if ranged and hint is int else hint, value):
        return _as_float(value, path) if hint is float else value
    raise _mismatch(path, hint, value)


def require_known(names: Iterable[str], known: Iterable[str], complaint: str) -> None:
    """Raises DecodingError, whose message begins with `complaint`, for the first name that is not known."""
    known = sorted(known)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(str(name)[:_SHOWN_CHARACTERS], known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
            raise DecodingError(f"{complaint} {str(name)[:_SHOWN_CHARACTERS]!r}; {hint}")


def _table(cls: Any, values: Any, path: str, base: Any, complete: bool) -> Any:
    """The dataclass that a table describes, or `base` with the fields that the table changes."""
    if not isinstance(values, Mapping):
        raise DecodingError(f"{_subject(path)}expected a table, got {_shown(values)}")
    hints, values = _hints(cls), current_names(cls, values)
    require_known(values, hints, f"{path} has no key".strip())
    prefix = f"{path}." if path else ""
    decoded = {
        name: decode(hints[name], value, prefix + name, getattr(base, name, None), complete)
        for name, value in values.items()
    }
    if base is not None:
        return dataclasses.replace(base, **decoded)
    needed = hints if complete else _required(cls)
    if missing := [name for name in needed if name not in decoded]:
        raise DecodingError(f"{_subject(path)}expected the keys {', '.join(missing)}, which are missing")
    return cls(**decoded)


def _either(hint: Any, value: Any, path: str, complete: bool, ranged: bool) -> Any:
    """The value as the first type of a union that accepts it. Of `X | None`, only X is tried for a value."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if value is None and len(options) < len(get_args(hint)):
        return None
    for option in options:
        try:
            return decode(option, value, path, None, complete, ranged)
        except DecodingError:
            if len(options) == 1:
                raise
    raise _mismatch(path, hint, value)


def _takes(hint: Any, value: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return any(type(value) is type(option) and value == option for option in get_args(hint))
    expected = (int, float) if hint is float else get_origin(hint) or hint
    return isinstance(value, expected) and (hint is bool or not isinstance(value, bool))


def _as_float(value: float, path: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise _mismatch(path, float, value) from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _required(cls: Any) -> list[str]:
    absent = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(cls) if f.default is absent and f.default_factory is absent]


def _mismatch(path: str, hint: Any, value: object) -> DecodingError:
    return DecodingError(f"{_subject(path)}expected {_described(hint)}, got {_shown(value)}")


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    return hint.__name__ if type(hint) is type else str(hint).removeprefix("typing.")


def _subject(path: str) -> str:
    return f"{path}: " if path else ""


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."
