"""Latents of the one who moves in a sample: of a photo, of a subject in the store, or of a demo subject."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from svgan_ray.demo.behaviour import behave, subject
from svgan_ray.demo.renderer import render
from svgan_ray.errors import ConfigError, DataError
from svgan_ray.orchestration.runtime.cluster import durable
from svgan_ray.orchestration.runtime.snapshots import subjects_of
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.store import LatentStore, open_store
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.refinement import RefinementConfig, refine
from svgan_ray.stylegan.weights import load_encoder, require_pair
from svgan_ray.video.landmarks import landmark_source, sidecar_path
from svgan_ray.video.photos import face_of_photo

__all__ = ["photo_latents", "subject_latents"]

DEMO = "demo:"
_DEMO_SECONDS, _DEMO_EVERY_FRAMES = 40, 25


def subject_latents(name: str, store: str, inversion_id: str, weights: str, generator: Generator) -> Tensor:
    """W+ [n, d] of `demo:NUMBER`, or of a subject or clip of the store.

    For footage it is the mean, like the model's own reference. Raises DataError, ConfigError.
    """
    if name.startswith(DEMO):
        return _encoded(_demo_portraits(name, 2 * generator.config.resolution), weights, generator).mean(0)
    return _stored(name, open_store(durable(store, "--store")), inversion_id)


def photo_latents(
    photo: str, faces: str | None, refine_steps: int, weights: str, generator: Generator
) -> Tensor:
    """W+ [n, d] of the largest face in a photo: found, cropped, encoded, refined.

    Raises DataError, LandmarksError, ConfigError.
    """
    if not Path(photo).is_file():
        raise DataError(f"--photo {photo}: no such file; name a picture that shows a face")
    faces = faces or ("sidecar" if sidecar_path(photo).is_file() else "mediapipe")
    encoder = _encoder_of(weights, generator)
    crop = face_of_photo(photo, landmark_source(faces), encoder.config.input_side)
    image = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1  # [1, 3, S, S]
    image = image.to(next(generator.parameters()).device)
    with torch.no_grad():
        w_plus = _encode(encoder, generator, image)
    if refine_steps:
        w_plus = refine(image, w_plus, generator.synthesis, RefinementConfig(steps=refine_steps))
    return w_plus[0]


def _encoder_of(weights: str, generator: Generator) -> Encoder:
    encoder = load_encoder(folders_of(weights)[1], next(generator.parameters()).device)
    require_pair(generator, encoder)
    return encoder


def _encoded(images: Tensor, weights: str, generator: Generator) -> Tensor:
    """Pictures [N, 3, S, S] in [-1, 1] as W+ [N, n, d]."""
    device, encoder = next(generator.parameters()).device, _encoder_of(weights, generator)
    with torch.no_grad():
        return torch.cat([_encode(encoder, generator, part.to(device)) for part in images.split(16)])


def _encode(encoder: Encoder, generator: Generator, images: Tensor) -> Tensor:
    if images.shape[-1] < encoder.config.input_side:
        images = torch.nn.functional.interpolate(
            images, size=(encoder.config.input_side,) * 2, mode="bilinear", align_corners=False
        )
    return encoder.encode(images, generator.synthesis)


def _demo_portraits(name: str, side: int) -> Tensor:
    """A few frames of a demo subject, spread over some time."""
    number = name.removeprefix(DEMO)
    if not number.isdecimal():
        raise ConfigError(f"--subject {name}: expected {DEMO} and a number, such as {DEMO}7")
    moves = behave(subject(int(number)), 25 * _DEMO_SECONDS)
    return render(moves[::_DEMO_EVERY_FRAMES], side)


def _stored(name: str, store: LatentStore, inversion_id: str) -> Tensor:
    """Mean W+ of a clip, or over all clips of a subject."""
    records = [r for r in store.commits(inversion_id) if name in (r.subject, r.clip_id)]
    if not records:
        known = ", ".join(subjects_of(store, inversion_id)) or "none made with the model's weights"
        raise DataError(
            f"--subject {name}: no such subject or clip in {store.uri}; its subjects: {known}. "
            "A picture is given with --photo"
        )
    total, frames = torch.zeros(()), 0
    for record in records:
        w_plus = store.read_clip(inversion_id, record.clip_id).w_plus  # [T, n, d]
        total, frames = total + w_plus.double().sum(0), frames + len(w_plus)
    return (total / frames).float()
