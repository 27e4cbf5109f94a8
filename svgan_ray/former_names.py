"""Former names of settings: the one table of them, and what makes a dataclass read them.

Flags, experiment files, presets and records may use either name. What is stored keeps the former names, so
that its bytes and the ids that are computed from it stay the same (`TemporalConfig.to_dict`).
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["FORMER_NAMES", "current_names", "reads_former_names", "under_former_names"]

FORMER_NAMES: dict[str, dict[str, str]] = {
    "TuneConfig": {"evaluations": "rungs"},
    "TemporalConfig": {"head": "latent_space"},
    "GeneratorOptions": {"head_widths": "output_widths"},
    "LossOptions": {
        "gradient_penalty": "critic_penalty_weight",
        "gradient_penalty_interval": "critic_penalty_interval",
        "angle_penalty": "angle_penalty_weight",
        "moment_matching": "moment_matching_weight",
    },
}
"""For each dataclass, the former names of its fields, each with the current name."""

C = TypeVar("C")


def current_names(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by the current names of the fields of `cls`; a value under a former name wins."""
    former = FORMER_NAMES.get(cls.__name__, {})
    found = {name: value for name, value in values.items() if name not in former}
    return found | {former[name]: value for name, value in values.items() if name in former}


def under_former_names(config: Any) -> dict[str, Any]:
    """The fields of a dataclass, and of those nested in it, by their former names where they have one."""
    former = {name: former for former, name in FORMER_NAMES.get(type(config).__name__, {}).items()}
    values = {former.get(f.name, f.name): getattr(config, f.name) for f in dataclasses.fields(config)}
    return {
        name: under_former_names(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
    }


def reads_former_names(cls: type[C]) -> type[C]:
    """Have a dataclass take former names as keyword arguments, as attributes and in its pickles.

    Fields that a pickle does not have were added after it was written, and get their defaults.
    """
    changed: Any = cls
    plain_init: Any = cls.__init__

    @functools.wraps(plain_init)
    def init(self: C, *args: Any, **values: Any) -> None:
        plain_init(self, *args, **current_names(cls, values))

    def set_state(self: C, state: dict[str, Any]) -> None:
        for added in dataclasses.fields(changed):
            if added.default_factory is not dataclasses.MISSING:
                self.__dict__[added.name] = added.default_factory()
        self.__dict__.update(current_names(cls, state))

    changed.__init__, changed.__setstate__ = init, set_state
    for former, name in FORMER_NAMES[cls.__name__].items():
        setattr(cls, former, property(operator.attrgetter(name)))
    return cls
