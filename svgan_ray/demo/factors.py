"""The factors of the demo world: the named properties in which two portraits differ.

A portrait is one vector of `NUM_FACTORS` numbers in standard-normal units: 0 is average, ±2 is rare. The
renderer turns it into a picture, the behaviour process moves its expression, pose and light, and the factor
reader reads it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

Group = Literal["identity", "pose", "expression", "light", "background"]

GROUPS: dict[Group, tuple[str, ...]] = {
    "identity": (
        "skin_tone",
        "skin_warmth",
        "face_width",
        "jaw_width",
        "chin_length",
        "hair_lightness",
        "hair_redness",
        "hair_length",
        "hair_volume",
        "hairline",
        "hair_parting",
        "eye_size",
        "eye_spacing",
        "eye_slant",
        "eye_blueness",
        "eye_lightness",
        "brow_thickness",
        "brow_arch",
        "nose_width",
        "nose_length",
        "lip_fullness",
        "lip_redness",
        "mouth_width",
        "clothes_red",
        "clothes_green",
        "clothes_blue",
    ),
    "pose": ("yaw", "pitch", "roll", "shift_x", "shift_y", "scale"),
    "expression": ("mouth_opening", "smile", "eyelid_left", "eyelid_right", "gaze_x", "gaze_y", "brow_raise"),
    "light": ("light_x", "light_y", "light_warmth"),
    "background": ("background_red", "background_green", "background_blue", "background_slope"),
}

FACTORS: tuple[str, ...] = tuple(name for names in GROUPS.values() for name in names)
NUM_FACTORS = len(FACTORS)
INDEX: dict[str, int] = {name: i for i, name in enumerate(FACTORS)}

MOVING: tuple[str, ...] = GROUPS["pose"] + GROUPS["expression"]
"""The factors that a subject's behaviour changes from frame to frame; all others are constant in a clip."""

SCORED: tuple[str, ...] = ("eyelid_left", "eyelid_right", "gaze_x", "gaze_y", "mouth_opening")
"""The small moving features by which reconstructions are judged."""

VISIBLE_RANGE = 2.2
"""Expressions beyond plus or minus this value look the same in the picture."""


def indices(names: Iterable[str]) -> list[int]:
    """Columns of the named factors."""
    return [INDEX[name] for name in names]


def draw_factors(count: int, generator: torch.Generator) -> Tensor:
    """Draw portraits for training: standard normal, but in half of them expression and pose are uniform.

    With a normal distribution alone, closed eyes and wide-open mouths would be too rare to be learned, and
    they are the motion that matters.

    Returns [count, NUM_FACTORS].
    """
    factors = torch.randn(count, NUM_FACTORS, generator=generator)
    spread = VISIBLE_RANGE * (2 * torch.rand(count, len(MOVING), generator=generator) - 1)
    both_eyes_alike = torch.rand(count, 1, generator=generator) < 0.5
    left, right = MOVING.index("eyelid_left"), MOVING.index("eyelid_right")
    spread[:, right : right + 1] = torch.where(
        both_eyes_alike, spread[:, left : left + 1], spread[:, right : right + 1]
    )
    evenly = torch.rand(count, 1, generator=generator) < 0.5
    columns = indices(MOVING)
    factors[:, columns] = torch.where(evenly, spread, factors[:, columns])
    return factors
