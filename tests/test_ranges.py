"""Ranges of numeric settings: which numbers they contain, their messages, and where they are checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from svgan_ray.errors import ConfigError
from svgan_ray.ranges import Range, above, at_least, check_ranges, from_to, from_to_below, numeric_fields


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, from_to_below(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    flag: bool = False
    sort: Literal[1, 2] = 1
    count: Annotated[int, at_least(1)] = 1
    minutes: Annotated[float | None, above(0)] = None
    sizes: Annotated[tuple[int, ...], at_least(2)] = ()
    free: int = 0
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    ("declared", "held", "refused", "text"),
    [
        (at_least(1), (1, 1.5, 10**30), (0, 0.999, -math.inf), "1 or more"),
        (above(0), (1e-300, 5), (0, -1), "above 0"),
        (from_to(0, 1), (0, 0.5, 1), (-1e-9, 1.0000001), "from 0 to 1"),
        (from_to_below(0, 1), (0, 0.999), (1, 2), "from 0 to below 1"),
        (Range(0, 2, holds_least=False), (1, 2), (0, 3), "above 0 to 2"),
    ],
)
def test_a_range_holds_what_it_says(
    declared: Range, held: tuple[float, ...], refused: tuple[float, ...], text: str
) -> None:
    assert all(value in declared for value in held)
    for value in (*refused, math.nan, math.inf, True, "1", None):
        assert value not in declared
    assert str(declared) == text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count: expected a whole number, 1 or more, got 0"),
        ({"count": 1.5}, "count: expected a whole number, 1 or more, got 1.5"),
        ({"count": True}, "count: expected a whole number, 1 or more, got True"),
        ({"count": "3"}, "count: expected a whole number, 1 or more, got '3'"),
        ({"count": None}, "count: expected a whole number, 1 or more, got None"),
        ({"minutes": 0.0}, "minutes: expected a number, above 0, got 0.0"),
        ({"sizes": (3, 1)}, "sizes: expected a whole number each, 2 or more, got (3, 1)"),
        ({"inner": Inner(1.0)}, "inner.share: expected a number, from 0 to below 1, got 1.0"),
    ],
)
def test_the_message_names_field_range_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer(**values)
    assert str(caught.value) == message


def test_what_is_right_is_let_through() -> None:
    Outer(count=np.int64(3), minutes=2, sizes=(2, 5), free=-7, inner=Inner(np.float32(0.25)))  # type: ignore[arg-type]


def test_numeric_fields_are_found_by_their_types() -> None:
    found = {f.name: (f.whole, f.range) for f in numeric_fields(Outer)}
    assert found == {
        "count": (True, at_least(1)),
        "minutes": (False, above(0)),
        "sizes": (True, at_least(2)),
        "free": (True, None),
    }
