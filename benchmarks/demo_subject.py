"""One subject of the demo world after inversion: clips of a minute, with their W+ and their true factors.

Footage is rendered to mp4, tracked, cropped and encoded as in `jobs/invert.py`, but in one process and
without a store. Finished clips are kept in a folder, so that a stopped run can go on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.demo.behaviour import Subject, behave, subject
from svgan_ray.demo.embedding import z_of_factors
from svgan_ray.demo.footage import render_footage
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders
from svgan_ray.video.cropping import crop_span
from svgan_ray.video.landmarks import SidecarLandmarks
from svgan_ray.video.reading import open_video
from svgan_ray.video.tracking import track

SUBJECT, OTHER_SUBJECT = 1, 2  # the demo's first ones
FRAME_RATE_HZ = 25.0
CLIP_S = 60.0
HELD_OUT_FROM, ANEW_FROM = 1000, 5000  # seeds of behaviour that training never sees
BATCH = 8


MINUTES, HELD_OUT_MINUTES = 10, 5


def motion_of_subject(
    folder: Path, latents: str = "inverted", tell: Callable[[str], None] = print
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """W+ clips [T, n, d] for training and held out, and the true W+ of the training clips.

    `latents` chooses between inverted footage and the true W+. Inverted clips are read from `folder` if they
    exist there, and are made otherwise.
    """
    seeds = list(range(MINUTES)) + list(range(HELD_OUT_FROM, HELD_OUT_FROM + HELD_OUT_MINUTES))
    true = [true_w_plus(behaviour(SUBJECT, seed)) for seed in seeds]
    clips = [_cached(folder, SUBJECT, seed, tell) for seed in seeds] if latents == "inverted" else true
    return clips[:MINUTES], clips[MINUTES:], true[:MINUTES]


def other_subject(folder: Path, latents: str, tell: Callable[[str], None] = print) -> Tensor:
    """W+ [T, n, d] of a minute of another subject."""
    if latents == "inverted":
        return _cached(folder, OTHER_SUBJECT, 0, tell)
    return true_w_plus(behaviour(OTHER_SUBJECT, 0))


def true_factors() -> list[Tensor]:
    """The true factors [T, NUM_FACTORS] of the training clips."""
    return [behaviour(SUBJECT, seed) for seed in range(MINUTES)]


def same_person_anew(clips: int, seconds: float) -> list[Tensor]:
    """True W+ [T, n, d] of new clips, neither trained on nor held out, as a perfect model would generate."""
    seeds = range(ANEW_FROM, ANEW_FROM + clips)
    return [true_w_plus(behaviour(SUBJECT, seed, seconds)) for seed in seeds]


def behaviour(number: int, seed: int, seconds: float = CLIP_S) -> Tensor:
    """Factors [T, NUM_FACTORS] of a clip."""
    return behave(subject(number), round(seconds * FRAME_RATE_HZ), FRAME_RATE_HZ, seed)


@torch.inference_mode()
def true_w_plus(factors: Tensor) -> Tensor:
    """The W+ [T, n, d] that corresponds to factors [T, NUM_FACTORS]."""
    w_plus: Tensor = load_generator(weights_folders("demo")[0]).mapping(z_of_factors(factors))
    return w_plus


def _cached(folder: Path, number: int, seed: int, tell: Callable[[str], None]) -> Tensor:
    path = folder / f"subject-{number}-behaviour-{seed}.safetensors"
    if not path.exists():
        tell(f"rendering and inverting {path.stem}")
        tensors = {"w_plus": _inverted(subject(number), seed)}
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file(tensors, part)
        os.replace(part, path)
    return load_file(path)["w_plus"]


def _inverted(person: Subject, seed: int) -> Tensor:
    encoder = load_encoder(weights_folders("demo")[1])
    with tempfile.TemporaryDirectory() as place:
        video_path = Path(place) / "footage.mp4"
        render_footage(video_path, person, CLIP_S, FRAME_RATE_HZ, seed)
        return torch.cat(list(_encoded(video_path, encoder)))


@torch.inference_mode()
def _encoded(video_path: Path, encoder: Encoder) -> Iterator[Tensor]:
    """W+ [N, n, d] of demo footage, which is a single clip, a few frames at a time."""
    with open_video(video_path) as video:
        (clip,) = track(SidecarLandmarks().detect(video), video.time_s).clips
        for crops in crop_span(video, clip.first_frame, clip.quad, encoder.config.input_side):
            images = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(127.5).sub(1)
            yield from (encoder.encode(part) for part in images.split(BATCH))
