"""A portrait of the demo world: its factors as shapes, colours and positions, and the canvas to paint on.

There are two coordinate systems. *Head space* has the face centre at the origin and y pointing down; from its
centre to the chin a face is about 1 high. *Frame space* is what a camera sees, in the same unit. The head is
turned (yaw, pitch) in head space and placed (roll, shift, scale) in frame space. Every shape has soft edges
of a fixed width in these units, so that the picture is a smooth function of the factors at any resolution.

Everything is vectorised: per-portrait quantities are [N, 1, 1] tensors, pictures are [N, H, W] planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.demo.factors import INDEX

EDGE = 0.028  # width of a soft edge, in head units: about 1.4 pixels of a 128 pixel crop

Colour = tuple[Tensor, Tensor, Tensor]
Plane = Tensor  # [N, H, W]


@dataclass(frozen=True)
class Portrait:
    """The factors of N portraits as shapes and colours; every field is [N, 1, 1]."""

    factors: Tensor  # [N, NUM_FACTORS]

    def raw(self, name: str) -> Tensor:
        return self.factors[:, INDEX[name], None, None]

    def bounded(self, name: str, centre: float, reach: float) -> Tensor:
        """A factor mapped to centre ± about `reach`: nearly linear within ±1.5, saturating beyond."""
        return centre + reach * torch.tanh(0.5 * self.raw(name))

    @property
    def yaw(self) -> Tensor:
        return self.bounded("yaw", 0.0, 0.45)

    @property
    def pitch(self) -> Tensor:
        return self.bounded("pitch", 0.0, 0.32)

    @property
    def eye_spacing(self) -> Tensor:
        return self.bounded("eye_spacing", 0.335, 0.035)

    @property
    def half_width(self) -> Tensor:
        return self.bounded("face_width", 0.74, 0.09)

    @property
    def mouth_opening(self) -> Tensor:
        """Height of the open mouth, from 0 (closed) to about 0.24."""
        return torch.nn.functional.softplus(self.bounded("mouth_opening", 0.085, 0.19) * 30) / 30

    @property
    def mouth_half_width(self) -> Tensor:
        return self.bounded("mouth_width", 0.25, 0.05) + 0.05 * torch.tanh(0.5 * self.raw("smile"))

    def eye_openness(self, side: str) -> Tensor:
        """From 0 (closed) to about 1."""
        return torch.nn.functional.softplus(self.bounded(f"eyelid_{side}", 0.6, 0.66) * 10) / 10

    def project(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where a point of the frontal face, on the head's ellipsoid, appears when the head is turned."""
        depth = 0.75 * torch.sqrt((1 - (x / 0.95) ** 2 - (y / 1.2) ** 2).clamp(min=0.05))
        turned_x = x * torch.cos(self.yaw) + depth * torch.sin(self.yaw)
        turned_depth = depth * torch.cos(self.yaw) - x * torch.sin(self.yaw)
        return turned_x, y * torch.cos(self.pitch) + turned_depth * torch.sin(self.pitch)

    def eye(self, side: str) -> tuple[Tensor, Tensor]:
        sign = -1.0 if side == "left" else 1.0  # left as one looks at the picture
        return self.project(sign * self.eye_spacing, torch.full_like(self.yaw, -0.12))

    def mouth(self) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(self.yaw)
        return self.project(zero, zero + 0.5 + 0.25 * self.bounded("nose_length", 0.0, 0.1))

    def nose(self) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(self.yaw)
        x, y = self.project(zero, zero + 0.2 + self.bounded("nose_length", 0.0, 0.06))
        return x + 0.16 * torch.sin(self.yaw), y + 0.1 * torch.sin(self.pitch)  # it stands out from the face

    def placement(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Roll (radians), shift x, shift y and scale of the head in frame space."""
        return (
            self.bounded("roll", 0.0, 0.3),
            self.bounded("shift_x", 0.0, 0.6),
            self.bounded("shift_y", 0.0, 0.3),
            self.bounded("scale", 1.0, 0.16),
        )


def to_frame(portrait: Portrait, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Head space → frame space."""
    roll, shift_x, shift_y, scale = portrait.placement()
    cos, sin = torch.cos(roll), torch.sin(roll)
    return scale * (cos * x - sin * y) + shift_x, scale * (sin * x + cos * y) + shift_y


def to_head(portrait: Portrait, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Frame space → head space."""
    roll, shift_x, shift_y, scale = portrait.placement()
    cos, sin = torch.cos(roll) / scale, torch.sin(roll) / scale
    x, y = x - shift_x, y - shift_y
    return cos * x + sin * y, cos * y - sin * x


def soft(distance: Plane, edge: float = EDGE) -> Plane:
    """Coverage of a shape from its signed distance (positive inside)."""
    return torch.sigmoid(distance * (4 / edge))


def ellipse(x: Plane, y: Plane, half_width: Tensor | float, half_height: Tensor | float) -> Plane:
    """Approximate signed distance to an ellipse, positive inside."""
    radius = torch.sqrt((x / half_width) ** 2 + (y / half_height) ** 2 + 1e-6)
    return (1 - radius) * 0.5 * (half_width + half_height)


def blob(x: Plane, y: Plane, half_width: Tensor | float, half_height: Tensor | float) -> Plane:
    """A Gaussian spot."""
    return torch.exp(-((x / half_width) ** 2) - (y / half_height) ** 2)


class Canvas:
    """Three colour planes [N, H, W], painted in place from back to front, and the points x, y they show."""

    def __init__(self, planes: Sequence[Plane], x: Plane, y: Plane) -> None:
        self.planes = planes
        self.x = x
        self.y = y

    def paint(self, coverage: Plane, colour: Colour) -> None:
        for plane, new in zip(self.planes, colour, strict=True):
            plane.lerp_(new.expand_as(plane), coverage.expand_as(plane))

    def multiply(self, *factors: Plane) -> None:
        for plane, factor in zip(self.planes, factors, strict=True):
            plane.mul_(factor)

    def darken(self, amount: Plane) -> None:
        self.multiply(*[1 - amount] * 3)

    def at(self, x: Plane, y: Plane) -> Canvas:
        """The same planes with other coordinates."""
        return Canvas(self.planes, x, y)

    def around(self, x: Tensor, y: Tensor, half_width: float, half_height: float) -> Canvas:
        """The smallest rectangle around every portrait's box at x, y, which makes small shapes cheap."""
        near = ((self.x - x).abs() < half_width) & ((self.y - y).abs() < half_height)
        rows, columns = span(near.any(dim=2).any(dim=0)), span(near.any(dim=1).any(dim=0))
        return Canvas(
            [p[:, rows, columns] for p in self.planes], self.x[:, rows, columns], self.y[:, rows, columns]
        )

    def image(self) -> Tensor:
        """[N, 3, H, W] in [-1, 1]."""
        return torch.stack(list(self.planes), dim=1).clamp_(0, 1).mul_(2).sub_(1)


def span(marked: Tensor) -> slice:
    """The shortest slice that holds every marked position."""
    positions = marked.nonzero()
    return slice(int(positions[0]), int(positions[-1]) + 1) if len(positions) else slice(0, 0)


def mix(a: tuple[float, float, float], b: tuple[float, float, float], share: Tensor) -> Colour:
    red, green, blue = (low + (high - low) * share for low, high in zip(a, b, strict=True))
    return red, green, blue


def scaled(colour: Colour, by: Tensor | float) -> Colour:
    return colour[0] * by, colour[1] * by, colour[2] * by


def share(portrait: Portrait, name: str) -> Tensor:
    """A factor as a share between 0 and 1."""
    return portrait.bounded(name, 0.5, 0.5)


def skin_colour(portrait: Portrait) -> Colour:
    red, green, blue = mix((0.98, 0.82, 0.72), (0.44, 0.27, 0.19), share(portrait, "skin_tone"))
    warmth = portrait.bounded("skin_warmth", 0.0, 0.06)
    return red + 0.5 * warmth, green, blue - warmth


def hair_colour(portrait: Portrait) -> Colour:
    red, green, blue = mix((0.09, 0.07, 0.06), (0.85, 0.70, 0.45), share(portrait, "hair_lightness") ** 1.5)
    redness = portrait.bounded("hair_redness", 0.06, 0.1)
    return red + redness, green, blue - 0.3 * redness


def eye_colour(portrait: Portrait) -> Colour:
    blueness = share(portrait, "eye_blueness")
    return scaled(
        mix((0.36, 0.22, 0.10), (0.30, 0.52, 0.68), blueness), portrait.bounded("eye_lightness", 0.9, 0.3)
    )


def named_colour(portrait: Portrait, prefix: str, centre: float, reach: float) -> Colour:
    red, green, blue = (
        portrait.bounded(f"{prefix}_{channel}", centre, reach) for channel in ("red", "green", "blue")
    )
    return red, green, blue


def paint_backdrop(portrait: Portrait, x: Plane, y: Plane) -> Canvas:
    """Background and clothes, which do not turn with the head. Frame space."""
    slope = 0.12 * (x * portrait.bounded("background_slope", 0.0, 0.6) - 0.6 * y)
    canvas = Canvas([base + slope for base in named_colour(portrait, "background", 0.55, 0.25)], x, y)
    _, shift_x, shift_y, scale = portrait.placement()
    body_x, body_y = x - 0.7 * shift_x, y - 0.6 * shift_y
    shoulders = ellipse(body_x, (body_y - 2.35).clamp(max=0), 1.75 * scale, 1.15)
    fold = 1 - 0.25 * blob(body_x, body_y - 1.2, 0.7, 0.5)
    canvas.paint(soft(shoulders, 0.06), scaled(named_colour(portrait, "clothes", 0.45, 0.4), fold))
    return canvas
