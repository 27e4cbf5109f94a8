"""Ranges of numeric settings: declared in a field's type, checked when a config is made.

    @dataclass(frozen=True)
    class Options:
        steps: Annotated[int, at_least(1)] = 1000
        betas: Annotated[tuple[float, float], from_to_below(0, 1)] = (0.5, 0.999)
        minutes: Annotated[float | None, above(0)] = None

        def __post_init__(self) -> None:
            check_ranges(self)

A range applies to every number that the field holds. None is accepted if the type allows it. No range
contains infinity or NaN.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from svgan_ray.errors import ConfigError

__all__ = [
    "NumericField",
    "Range",
    "above",
    "at_least",
    "check_ranges",
    "from_to",
    "from_to_below",
    "numeric_fields",
]


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`; either end may be included or excluded."""

    least: float = -math.inf
    most: float = math.inf
    holds_least: bool = True
    holds_most: bool = True

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return False
        number: Any = value
        is_high_enough = self.least < number or (self.holds_least and number == self.least)
        return bool(is_high_enough and (number < self.most or (self.holds_most and number == self.most)))

    def __str__(self) -> str:
        if (self.least, self.most) == (-math.inf, math.inf):
            return "finite"
        if self.most == math.inf:
            return f"{self.least} or more" if self.holds_least else f"above {self.least}"
        lower = f"from {self.least}" if self.holds_least else f"above {self.least}"
        return f"{lower} to {'' if self.holds_most else 'below '}{self.most}"


def at_least(least: float) -> Range:
    """`least` or more."""
    return Range(least)


def above(least: float) -> Range:
    """More than `least`."""
    return Range(least, holds_least=False)


def from_to(least: float, most: float) -> Range:
    """`least` to `most`, both included."""
    return Range(least, most)


def from_to_below(least: float, most: float) -> Range:
    """`least` to `most`, the latter excluded."""
    return Range(least, most, holds_most=False)


@dataclass(frozen=True)
class NumericField:
    """A field that holds numbers; `range` is None where the field declares none."""

    name: str
    whole: bool
    optional: bool
    range: Range | None

    def check(self, value: object, name: str) -> None:
        """Raises ConfigError, naming the field as `name`, unless every number in `value` is in the range."""
        if self.range is None or (value is None and self.optional):
            return
        for number in value if isinstance(value, tuple) else (value,):
            if number not in self.range or (self.whole and not isinstance(number, Integral)):
                kind = "a whole number" if self.whole else "a number"
                each = " each" if isinstance(value, tuple) else ""
                raise ConfigError(f"{name}: expected {kind}{each}, {self.range}, got {value!r}")


@functools.cache
def numeric_fields(config_type: type[Any]) -> tuple[NumericField, ...]:
    """The fields of a dataclass that hold ints or floats, without those of nested dataclasses."""
    hints = get_type_hints(config_type, include_extras=True)
    found = []
    for f in dataclasses.fields(config_type):
        types = set(_types(hints[f.name]))
        if types & {int, float}:
            declared = [mark for mark in get_args(hints[f.name])[1:] if isinstance(mark, Range)]
            whole, optional = float not in types, type(None) in types
            found.append(NumericField(f.name, whole, optional, declared[0] if declared else None))
    return tuple(found)


def check_ranges(config: Any, prefix: str = "") -> None:
    """Raises ConfigError for the first number of a config, or of one nested in it, that is out of its range.

    `prefix` comes before the field's name in the message, as in "loss.".
    """
    config_type: Any = type(config)
    for numeric in numeric_fields(config_type):
        numeric.check(getattr(config, numeric.name), prefix + numeric.name)
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{prefix}{f.name}.")


def _types(hint: Any) -> Iterator[Any]:
    """The types that a hint is made of: int and None of `int | None`, int of `tuple[int, ...]`."""
    if get_origin(hint) is Annotated:
        yield from _types(get_args(hint)[0])
    elif arguments := get_args(hint):
        for argument in arguments:
            yield from _types(argument)
    else:
        yield hint
