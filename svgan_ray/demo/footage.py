"""Footage of a demo subject: an mp4 of a person who moves inside a larger frame, with sidecars of landmarks
and of the true factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.demo.behaviour import Subject, behave
from svgan_ray.demo.factors import FACTORS
from svgan_ray.demo.renderer import HEAD_REACH, landmarks, render_at, render_backdrop
from svgan_ray.errors import InputError
from svgan_ray.files import written_whole
from svgan_ray.video.landmarks import write_sidecar
from svgan_ray.video.writing import VideoWriter

WIDTH, HEIGHT = 320, 272
PIXELS_PER_UNIT = 50.0
CENTRE_X, CENTRE_Y = WIDTH / 2, 0.45 * HEIGHT
BATCH_FRAMES = 8  # keeps the planes of one batch in a core's cache


def render_footage(
    path: Path,
    person: Subject,
    seconds: float,
    frame_rate_hz: float = 25.0,
    seed: int = 0,
    progress: Callable[[int], None] = lambda frames: None,
) -> None:
    """Write `path` (H.264) and its two sidecars; `progress` is called after every batch of frames.

    The landmarks are those that a detector would find. The factors (`factors_path`) are the true ones, for
    evaluation only.
    """
    factors = behave(person, round(seconds * frame_rate_hz), frame_rate_hz, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        path, WIDTH, HEIGHT, frame_rate_hz, tags={"title": f"svgan-ray demo subject {person.seed}"}
    ) as video:
        for frames in rendered_batches(factors):
            video.write(frames)
            progress(len(frames))
    write_sidecar(path, to_pixels(landmarks(factors)).numpy())
    save_factors(path, factors)


def rendered_batches(factors: Tensor) -> Iterator[NDArray[np.uint8]]:
    """Frames [n, HEIGHT, WIDTH, 3] of a clip [T, NUM_FACTORS], in order, rendered by as many threads as
    torch uses.
    """
    workers = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(frames_of, torch.split(factors, BATCH_FRAMES))


def frames_of(factors: Tensor) -> NDArray[np.uint8]:
    """Frames [n, HEIGHT, WIDTH, 3] of factors [n, NUM_FACTORS]. To save time, the head is painted only inside
    the box that contains it.
    """
    x, y = (grid.expand(len(factors), -1, -1) for grid in frame_points())
    image = render_backdrop(factors, x, y)
    left, top, right, bottom = head_box(factors)
    image[:, :, top:bottom, left:right] = render_at(
        factors, x[:, top:bottom, left:right].contiguous(), y[:, top:bottom, left:right].contiguous()
    )
    pixels: NDArray[np.uint8] = ((image + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def frame_points() -> tuple[Tensor, Tensor]:
    """Frame-space coordinates of the pixel centres, each [1, HEIGHT, WIDTH]."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    return ((x - CENTRE_X) / PIXELS_PER_UNIT)[None], ((y - CENTRE_Y) / PIXELS_PER_UNIT)[None]


def to_pixels(points: Tensor) -> Tensor:
    """Frame space [..., 2] → pixels (x, y)."""
    return points * PIXELS_PER_UNIT + torch.tensor([CENTRE_X, CENTRE_Y])


def head_box(factors: Tensor) -> tuple[int, int, int, int]:
    """The box in pixels (left, top, right, bottom) that contains the head in all of these frames."""
    middle = to_pixels(landmarks(factors)[:, 27:31].mean(dim=1))  # the bridge of the nose
    reach = HEAD_REACH * PIXELS_PER_UNIT
    (left, top), (right, bottom) = (
        (middle.amin(dim=0) - reach).tolist(),
        (middle.amax(dim=0) + reach).tolist(),
    )
    return max(0, int(left)), max(0, int(top)), min(WIDTH, int(right) + 1), min(HEIGHT, int(bottom) + 1)


def factors_path(video: Path) -> Path:
    """The file that holds a demo video's true factors."""
    return video.with_name(video.name + ".factors.safetensors")


def save_factors(video: Path, factors: Tensor) -> None:
    with written_whole(factors_path(video)) as partial:
        save_file({"factors": factors}, partial, metadata={"names": ",".join(FACTORS)})


def load_factors(video: Path) -> Tensor:
    """The true factors of a demo video, [T, NUM_FACTORS]."""
    file = factors_path(video)
    if not file.exists():
        raise InputError(
            f"{file}: no such file; the truth is known only for footage that svgan_ray.demo.footage made"
        )
    return load_file(file)["factors"]
