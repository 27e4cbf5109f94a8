"""What the settings of several jobs have in common: types, ranges, checks, and the choice of clips."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from svgan_ray.errors import ConfigError
from svgan_ray.places import Name, settle_places
from svgan_ray.ranges import Range, at_least, check_ranges, from_to

__all__ = ["FINITE", "SEEDS", "SHARE", "DataChoice", "Machines", "flatten", "require", "require_no_password"]

Machines = Literal["any", "spot", "on-demand"]
"""Machines of a cluster by Ray's own label `ray.io/market-type`."""

SHARE = Range(0, 1, holds_least=False)
"""Shares of a GPU. A process here computes on one GPU, so it cannot use more than one."""
SEEDS = from_to(-(2**63), 2**63 - 1)
"""Seeds that fit into 64 bits."""
FINITE = Range()


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """The clips of a store that a job uses; None lets the content of the store decide."""

    subject: Annotated[str | None, Name()] = None
    """Subject to learn. The default is the only subject in the store."""
    snapshot: Annotated[str | None, Name()] = None
    """Snapshot to train on, NAME or NAME@GENERATION. The default is a new snapshot of the subject's clips."""
    inversion: Annotated[str | None, Name()] = None
    """Inversion whose latents are used. It is needed if the store holds several that these weights made."""
    min_clip_s: Annotated[float, at_least(0)] = 0.0
    """Leave out clips that are shorter than this."""
    max_error: Annotated[float | None, at_least(0)] = None
    """Leave out clips whose mean reconstruction error is larger than this."""

    def __post_init__(self) -> None:
        check_ranges(self)
        settle_places(self)


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """Fields of a config by dotted name, including nested ones, as they are printed and logged."""
    flat: dict[str, object] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat


def require(condition: object, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{name}: expected {expected}, got {got!r}")


def require_no_password(address: str, name: str, place: str) -> None:
    """Settings are printed, logged and visible as process arguments, so the error does not show the value."""
    if re.search(r"://[^/@]*:[^/@]*@", address) or re.search(r"[?&]password=", address):
        raise ConfigError(f"{name}: holds a password, which others would see; set it in {place}")
