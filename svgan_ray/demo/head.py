"""Paints the head of a portrait, in head space, from back to front: hair, neck, face, features, fringe."""

from __future__ import annotations

import torch
from torch import Tensor

from svgan_ray.demo.portrait import (
    Canvas,
    Plane,
    Portrait,
    blob,
    ellipse,
    eye_colour,
    hair_colour,
    mix,
    scaled,
    share,
    skin_colour,
    soft,
)

LASH = (0.10, 0.07, 0.06)


def paint_head(canvas: Canvas, portrait: Portrait) -> None:
    """Paint the head onto a canvas whose points are in head space."""
    light = shading(portrait, canvas.x, canvas.y)
    paint_back_hair(canvas, portrait)
    paint_neck(canvas, portrait)
    paint_face(canvas, portrait, light)
    paint_nose(canvas.around(*portrait.nose(), 0.4, 0.6), portrait)
    paint_mouth(canvas.around(*portrait.mouth(), 0.42, 0.5), portrait)
    for side in ("left", "right"):
        eye = canvas.around(*portrait.eye(side), 0.34, 0.55)
        paint_eye(eye, portrait, side)
        paint_brow(eye, portrait, side)
    paint_fringe(canvas, portrait, light)


def shading(portrait: Portrait, x: Plane, y: Plane) -> Plane:
    """Lambert shading of an ellipsoid lit from (light_x, light_y)."""
    nx, ny = x / 0.95, y / 1.15
    nz = torch.sqrt((1 - nx**2 - ny**2).clamp(min=0.02))
    lx, ly = portrait.bounded("light_x", 0.0, 0.55), portrait.bounded("light_y", -0.3, 0.35)
    return 0.78 + 0.3 * (nx * lx + ny * ly + nz - 0.6)


def tint(colour: tuple[float, float, float], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    red, green, blue = (torch.full_like(like, value) for value in colour)
    return red, green, blue


def paint_back_hair(canvas: Canvas, portrait: Portrait) -> None:
    x, y = canvas.x, canvas.y
    volume = portrait.bounded("hair_volume", 0.13, 0.1)
    length = portrait.bounded("hair_length", 0.2, 0.85)
    x = x + 0.12 * torch.sin(portrait.yaw)
    width = portrait.half_width + volume
    cap = ellipse(x, y + 0.22, width, 0.88 + volume)
    beside = torch.minimum(y + 0.3, length - y)
    fall = torch.minimum(width - 0.02 - x.abs(), beside)  # straight locks beside the face
    sheen = 0.75 + 0.35 * blob(x + 0.3, y + 0.8, 0.5, 0.3)
    canvas.paint(soft(torch.maximum(cap, fall), 0.07), scaled(hair_colour(portrait), 0.8 * sheen))


def paint_neck(canvas: Canvas, portrait: Portrait) -> None:
    x, y = canvas.x, canvas.y
    half_width = 0.36 * portrait.half_width / 0.74 + 0.1 * (y - 1.0).clamp(min=0) ** 2
    column = torch.minimum(half_width - x.abs(), torch.minimum(y - 0.3, 1.55 - 0.3 * x.abs() - y))
    shadow = 0.8 - 0.3 * blob(x, y - 0.95, 0.5, 0.25)
    canvas.paint(soft(column, 0.06), scaled(skin_colour(portrait), shadow))


def paint_face(canvas: Canvas, portrait: Portrait, light: Plane) -> None:
    x, y = canvas.x, canvas.y
    skin = skin_colour(portrait)
    chin = 0.95 + portrait.bounded("chin_length", 0.0, 0.08) + 0.35 * portrait.mouth_opening
    jaw = portrait.bounded("jaw_width", 0.80, 0.12)
    below = torch.sigmoid(y * 5)  # 0 at the forehead, 1 at the jaw
    width = portrait.half_width * (1 - below * (1 - jaw) * (0.4 + 0.6 * y.clamp(0, 1)))
    for sign in (-1.0, 1.0):
        ear = ellipse(
            x - sign * (portrait.half_width - 0.02) + 0.14 * torch.sin(portrait.yaw), y - 0.05, 0.09, 0.17
        )
        canvas.paint(soft(ear), scaled(skin, 0.78))
    height = torch.lerp(torch.full_like(y, 0.98), chin.expand_as(y), below)
    canvas.paint(soft(ellipse(x, y, width, height), 0.04), scaled(skin, light))
    for sign in (-1.0, 1.0):
        cheek_x, cheek_y = portrait.project(
            torch.full_like(portrait.yaw, sign * 0.4), torch.full_like(portrait.yaw, 0.27)
        )
        blush = 0.35 * blob(x - cheek_x, y - cheek_y, 0.2, 0.16)
        canvas.multiply(torch.ones_like(blush), 1 - 0.35 * blush, 1 - 0.3 * blush)


def paint_nose(canvas: Canvas, portrait: Portrait) -> None:
    x, y = canvas.x, canvas.y
    tip_x, tip_y = portrait.nose()
    bridge_x, bridge_y = portrait.project(torch.zeros_like(tip_x), torch.full_like(tip_x, -0.14))
    width = portrait.bounded("nose_width", 0.115, 0.035)
    along = ((y - bridge_y) / (tip_y - bridge_y)).clamp(0, 1)
    centre = bridge_x + (tip_x - bridge_x) * along
    side = -torch.tanh(2 * portrait.bounded("light_x", 0.0, 0.55)) * 0.75
    ridge = torch.sigmoid((y - bridge_y) * 12) * torch.sigmoid((tip_y - y) * 14)
    canvas.darken(
        0.16 * ridge * blob(x - centre - side * width, 0 * y, 0.3 * width + 0.35 * width * along, 1.0)
    )
    canvas.darken(0.26 * blob(x - tip_x, y - tip_y - 0.075, 1.15 * width, 0.04))
    for sign in (-1.0, 1.0):
        canvas.darken(0.5 * blob(x - tip_x - sign * 0.55 * width, y - tip_y - 0.055, 0.034, 0.024))
    shine = 0.16 * blob(x - tip_x, y - tip_y + 0.03, 0.5 * width, 0.06)
    canvas.paint(shine, tint((1.0, 0.97, 0.93), tip_x))


def paint_mouth(canvas: Canvas, portrait: Portrait) -> None:
    x, y = canvas.x, canvas.y
    centre_x, centre_y = portrait.mouth()
    width = portrait.mouth_half_width * torch.cos(portrait.yaw)
    opening = portrait.mouth_opening
    u = (x - centre_x) / width
    smile = portrait.bounded("smile", 0.02, 0.085)
    dome = (1 - u**2).clamp(min=0)
    line = centre_y + smile * (0.5 - u**2)  # corners rise in a smile
    fullness = portrait.bounded("lip_fullness", 0.075, 0.03)
    bow = 1 - 0.3 * torch.exp(-((u / 0.22) ** 2))
    top, bottom = line - opening * 0.35 * dome, line + opening * 0.65 * dome
    outer = torch.minimum(y - (top - fullness * 0.85 * dome * bow), bottom + fullness * 1.15 * dome**0.7 - y)
    inside = torch.minimum(outer, 0.4 * (1 - u.abs()) * width)
    lips = mix((0.72, 0.42, 0.38), (0.72, 0.16, 0.20), share(portrait, "lip_redness"))
    tone = 1 - 0.35 * share(portrait, "skin_tone")
    canvas.darken(0.16 * blob(x - centre_x, y - bottom - fullness - 0.09, 0.8 * width, 0.05))
    canvas.paint(0.9 * soft(inside), scaled(lips, tone * (0.92 + 0.5 * (y - line))))
    gap = torch.minimum(y - top, bottom - y)
    cavity = soft(torch.minimum(gap + 0.004, 0.3 * (0.96 - u.abs()) * width))
    canvas.paint(cavity, tint((0.20, 0.05, 0.06), centre_x))
    teeth = soft(torch.minimum(gap - 0.008, top + 0.055 - y)) * soft((0.75 - u.abs()) * 0.3)
    canvas.paint(0.85 * teeth, tint((0.93, 0.91, 0.87), centre_x))


def paint_eye(canvas: Canvas, portrait: Portrait, side: str) -> None:
    x, y = canvas.x, canvas.y
    sign = -1.0 if side == "left" else 1.0
    centre_x, centre_y = portrait.eye(side)
    size = portrait.bounded("eye_size", 1.0, 0.16)
    half_width = 0.2 * size * torch.cos(portrait.yaw)
    dx = x - centre_x
    dy = y - centre_y + sign * portrait.bounded("eye_slant", 0.06, 0.16) * dx
    u = dx / half_width
    dome = (1 - u**2).clamp(min=0)
    open_height = 0.165 * size * portrait.eye_openness(side)
    upper, lower = dy + (open_height - 0.055 * size) * dome, 0.055 * size * dome - dy
    aperture = torch.minimum(torch.minimum(upper, lower), 0.5 * (1 - u.abs()) * half_width)
    canvas.darken(0.22 * blob(dx, dy + 0.12 * size, half_width, 0.1))  # the socket
    white = soft(aperture)
    canvas.paint(white, tint((0.93, 0.92, 0.90), centre_x))
    gaze_x = dx - portrait.bounded("gaze_x", 0.0, 0.13)
    gaze_y = dy + 0.012 - portrait.bounded("gaze_y", 0.0, 0.1)
    radius = 0.1 * size
    canvas.paint(white * soft(ellipse(gaze_x, gaze_y, radius, radius)), eye_colour(portrait))
    canvas.paint(
        white * soft(ellipse(gaze_x, gaze_y, 0.48 * radius, 0.48 * radius)),
        tint((0.03, 0.03, 0.04), centre_x),
    )
    canvas.paint(
        0.9 * white * blob(gaze_x + 0.03, gaze_y + 0.03, 0.024, 0.024), tint((1.0, 1.0, 1.0), centre_x)
    )
    ends = soft(0.5 * (1.12 - u.abs()) * half_width, 0.06)
    lash = blob(upper, 0 * y, 0.026, 1.0) * ends * (dy < 0.09)
    canvas.paint(0.85 * lash, tint(LASH, centre_x))
    canvas.darken(0.18 * blob(lower, 0 * y, 0.02, 1.0) * ends)


def paint_brow(canvas: Canvas, portrait: Portrait, side: str) -> None:
    x, y = canvas.x, canvas.y
    sign = -1.0 if side == "left" else 1.0
    eye_x, eye_y = portrait.eye(side)
    raised = portrait.bounded("brow_raise", 0.0, 0.11)
    u = (x - eye_x - sign * 0.01) / (0.24 * torch.cos(portrait.yaw))
    arch = portrait.bounded("brow_arch", 0.07, 0.06)
    ridge = eye_y - 0.29 - raised + arch * (u - sign * 0.15) ** 2
    thickness = portrait.bounded("brow_thickness", 0.036, 0.018) * (1 - 0.35 * sign * u).clamp(min=0.2)
    inside = torch.minimum(thickness - (y - ridge).abs(), (1 - u.abs()) * 0.12)
    canvas.paint(0.85 * soft(inside, 0.045), scaled(hair_colour(portrait), 0.6))


def paint_fringe(canvas: Canvas, portrait: Portrait, light: Plane) -> None:
    x, y = canvas.x, canvas.y
    volume = portrait.bounded("hair_volume", 0.13, 0.1)
    head_x = x + 0.06 * torch.sin(portrait.yaw)
    cap = ellipse(head_x, y + 0.2, portrait.half_width + 0.6 * volume, 0.85 + volume)
    parting = portrait.bounded("hair_parting", 0.0, 0.5)
    turned = x - 0.4 * torch.sin(portrait.yaw)
    hairline = portrait.bounded("hairline", -0.60, 0.13) + 0.4 * torch.sin(portrait.pitch)
    edge = (
        hairline
        + 0.85 * (turned.abs() / 0.8) ** 3
        + 0.16 * torch.tanh(3 * (turned - parting)) * torch.tanh(-4 * parting)
    )
    strands = 0.78 + 0.45 * (light - 0.8) + 0.16 * blob(x + 0.25, y + 0.85, 0.35, 0.14)
    canvas.paint(soft(torch.minimum(cap, edge - y), 0.06), scaled(hair_colour(portrait), strands))
