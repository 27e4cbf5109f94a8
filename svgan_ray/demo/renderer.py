"""Draws portraits with known factors, as aligned crops or as frames of footage."""

from __future__ import annotations

import torch
from torch import Tensor

from svgan_ray.demo.factors import NUM_FACTORS
from svgan_ray.demo.head import paint_head
from svgan_ray.demo.portrait import Canvas, Plane, Portrait, paint_backdrop, to_frame, to_head

HEAD_REACH = 1.9  # half the side, in head units, of a square that contains every head with its hair


def render(factors: Tensor, side: int) -> Tensor:
    """Draw aligned crops: the pictures that the FFHQ crop of footage of these portraits would show.

    Args:
        factors: [N, NUM_FACTORS].
        side: pixels.

    Returns:
        [N, 3, side, side] in [-1, 1].
    """
    return render_quad(factors, aligned_quads(factors), side)


def render_quad(factors: Tensor, quads: Tensor, side: int) -> Tensor:
    """Draw the inside of each quad [N, 4, 2] (frame space; corners in the order of `aligned_quads`)."""
    at = (torch.arange(side, device=factors.device) + 0.5) / side
    right, down = at[None, None, :, None], at[None, :, None, None]
    top_left, bottom_left, _, top_right = (corner[:, None, None, :] for corner in quads.unbind(dim=1))
    points = top_left + right * (top_right - top_left) + down * (bottom_left - top_left)  # [N, side, side, 2]
    return render_at(factors, points[..., 0].contiguous(), points[..., 1].contiguous())


def render_at(factors: Tensor, x: Plane, y: Plane) -> Tensor:
    """The colour at frame-space points x, y [N, H, W] (y down): [N, 3, H, W] in [-1, 1]."""
    portrait = Portrait(checked(factors))
    canvas = paint_backdrop(portrait, x, y)
    paint_head(canvas.at(*to_head(portrait, x, y)), portrait)
    return lit(canvas, portrait)


def render_backdrop(factors: Tensor, x: Plane, y: Plane) -> Tensor:
    """The background behind the head at frame-space points x, y [N, H, W]: [N, 3, H, W] in [-1, 1]."""
    portrait = Portrait(checked(factors))
    return lit(paint_backdrop(portrait, x, y), portrait)


def lit(canvas: Canvas, portrait: Portrait) -> Tensor:
    warmth = portrait.bounded("light_warmth", 0.0, 0.1)
    canvas.multiply(1 + warmth, 1 + 0.1 * warmth, 1 - warmth)
    return canvas.image()


def checked(factors: Tensor) -> Tensor:
    if factors.ndim != 2 or factors.shape[1] != NUM_FACTORS:
        raise ValueError(f"factors: expected [N, {NUM_FACTORS}], got {list(factors.shape)}")
    return factors


def landmarks(factors: Tensor) -> Tensor:
    """The 68 iBUG landmarks in frame space, [N, 68, 2].

    They are exact for the eye contours and the mouth; those of jaw, brows and nose follow the drawn shapes.
    """
    portrait = Portrait(checked(factors))
    groups = [
        jaw_points(portrait),
        *(brow_points(portrait, s) for s in ("left", "right")),
        nose_points(portrait),
    ]
    groups += [eye_points(portrait, s) for s in ("left", "right")] + [mouth_points(portrait)]
    x, y = (torch.cat(part, dim=1) for part in zip(*groups, strict=True))  # [N, 68]
    frame_x, frame_y = to_frame(portrait, x[:, :, None], y[:, :, None])
    return torch.stack([frame_x[..., 0], frame_y[..., 0]], dim=-1)


Points = tuple[Tensor, Tensor]  # x, y, each [N, P], in head space


def points_at(portrait: Portrait, x: Tensor, y: Tensor) -> Points:
    return x[:, :, 0].expand(len(portrait.factors), -1), y[:, :, 0].expand(len(portrait.factors), -1)


def jaw_points(portrait: Portrait) -> Points:
    angle = torch.linspace(0, torch.pi, 17, device=portrait.factors.device)[None, :, None]
    chin = 0.95 + portrait.bounded("chin_length", 0.0, 0.08) + 0.35 * portrait.mouth_opening
    return points_at(portrait, -portrait.half_width * torch.cos(angle), chin * torch.sin(angle))


def brow_points(portrait: Portrait, side: str) -> Points:
    x, y = portrait.eye(side)
    along = torch.linspace(-0.2, 0.2, 5, device=portrait.factors.device)[None, :, None]
    return points_at(portrait, x + along, y - 0.29 - portrait.bounded("brow_raise", 0.0, 0.11) + 0 * along)


def nose_points(portrait: Portrait) -> Points:
    x, y = portrait.nose()
    bridge_y = portrait.eye("left")[1]
    down = torch.linspace(0, 1, 4, device=portrait.factors.device)[None, :, None]
    across = torch.linspace(-1, 1, 5, device=portrait.factors.device)[None, :, None]
    width = portrait.bounded("nose_width", 0.115, 0.035)
    bridge = points_at(portrait, x + 0 * down, bridge_y + (y - bridge_y) * down)
    wings = points_at(portrait, x + width * across, y + 0.07 + 0 * across)
    return torch.cat([bridge[0], wings[0]], dim=1), torch.cat([bridge[1], wings[1]], dim=1)


def eye_points(portrait: Portrait, side: str) -> Points:
    """Six points of the rim of the eye socket, not of the lids, so that a blink does not move the crop."""
    x, y = portrait.eye(side)
    half_width = 0.2 * portrait.bounded("eye_size", 1.0, 0.16) * torch.cos(portrait.yaw)
    across = torch.tensor([-1.0, -0.4, 0.4, 1.0, 0.4, -0.4], device=x.device)[None, :, None]
    height = torch.tensor([0.0, -0.06, -0.06, 0.0, 0.06, 0.06], device=x.device)[None, :, None]
    return points_at(portrait, x + half_width * across, y + height)


def mouth_points(portrait: Portrait) -> Points:
    """Twelve points of the outer lip, from the left corner (48) over the top to the right one (54), and
    eight of the inner.
    """
    x, y = portrait.mouth()
    width = portrait.mouth_half_width * torch.cos(portrait.yaw)
    corner = y - 0.5 * portrait.bounded("smile", 0.02, 0.085)
    outer = torch.arange(12, device=x.device)[None, :, None] * (2 * torch.pi / 12)
    inner = torch.arange(8, device=x.device)[None, :, None] * (2 * torch.pi / 8)
    opening = portrait.mouth_opening
    rings = [(outer, 1.0, 0.08 + 0.5 * opening), (inner, 0.8, 0.5 * opening)]
    parts = [
        points_at(portrait, x - r * width * torch.cos(a), corner - h * torch.sin(a)) for a, r, h in rings
    ]
    return torch.cat([p[0] for p in parts], dim=1), torch.cat([p[1] for p in parts], dim=1)


def aligned_quads(factors: Tensor) -> Tensor:
    """The exact FFHQ crop of each portrait in frame space, [N, 4, 2] (method page, step 2)."""
    points = landmarks(factors)
    left, right = points[:, 36:42].mean(dim=1), points[:, 42:48].mean(dim=1)
    eyes, mouth = (left + right) / 2, (points[:, 48] + points[:, 54]) / 2
    across, down = right - left, mouth - eyes
    x = across - rot90(down)
    x = x / x.norm(dim=1, keepdim=True)
    x = x * torch.maximum(2.0 * across.norm(dim=1, keepdim=True), 1.8 * down.norm(dim=1, keepdim=True))
    y, centre = rot90(x), eyes + 0.1 * down
    return torch.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y], dim=1)


def rot90(vector: Tensor) -> Tensor:
    return torch.stack([-vector[:, 1], vector[:, 0]], dim=1)


def region_masks(factors: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where the eyes and the mouth are in the aligned crops: two masks [N, 1, side, side] in [0, 1]."""
    quads = aligned_quads(factors)
    portrait = Portrait(factors)
    at = (torch.arange(side, device=factors.device) + 0.5) / side
    points = quads[:, 0, None, None] + at[None, None, :, None] * (quads[:, 3] - quads[:, 0])[:, None, None]
    points = points + at[None, :, None, None] * (quads[:, 1] - quads[:, 0])[:, None, None]
    x, y = to_head(portrait, points[..., 0], points[..., 1])
    eyes = torch.zeros_like(x)
    for name in ("left", "right"):
        eye_x, eye_y = portrait.eye(name)
        eyes = torch.maximum(eyes, box(x - eye_x, y - eye_y, 0.24, 0.17))
    mouth_x, mouth_y = portrait.mouth()
    mouth = box(x - mouth_x, y - mouth_y - 0.06, 0.36, 0.26)
    return eyes[:, None], mouth[:, None]


def box(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    return ((x.abs() < half_width) & (y.abs() < half_height)).to(x.dtype)
