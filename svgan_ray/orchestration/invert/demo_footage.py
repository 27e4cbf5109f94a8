"""Footage of the demo's subjects, rendered on first use."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from svgan_ray.demo.behaviour import subject
from svgan_ray.demo.footage import factors_path, render_footage
from svgan_ray.orchestration.runtime.cluster import durable

__all__ = ["demo_footage"]

_TELL_EVERY_S = 0.5


def demo_footage(
    render: bool = True,
    folder: str = "demo/footage",
    subjects: int = 3,
    seconds: float = 60.0,
    others_s: float | None = None,
    progress: Callable[[int], None] = lambda frames: None,
) -> list[Path]:
    """Paths of subject-1.mp4, subject-2.mp4, ...; missing videos are rendered on this machine alone.

    All videos have the same length unless `others_s` says how long those after the first are. `progress` is
    called now and then with the number of frames rendered so far.
    """
    place = Path(durable(folder, "the demo's footage"))
    paths = [place / f"subject-{number}.mp4" for number in range(1, subjects + 1)]
    # The factors are written last. If they are missing, a killed run may not have written the landmarks
    # either.
    lengths_s = [seconds, *(subjects - 1) * [seconds if others_s is None else others_s]]
    absent = [
        (path, number, length_s)
        for number, (path, length_s) in enumerate(zip(paths, lengths_s, strict=True), 1)
        if not factors_path(path).exists()
    ]
    if render and absent:
        _render_all(absent, progress)
    return paths


def _render_all(works: list[tuple[Path, int, float]], progress: Callable[[int], None]) -> None:
    # The processes are spawned, because a fork of a process in which torch has threads may hang.
    context = multiprocessing.get_context("spawn")
    frames = context.Value("q", 0)
    workers = min(len(works), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, context, initializer=_count_in, initargs=(frames,)) as pool:
        pending = {pool.submit(_render, *work) for work in works}
        while pending:
            done, pending = wait(pending, _TELL_EVERY_S)
            progress(frames.value)
            for future in done:
                future.result()


_frames: Synchronized[int]  # in a worker process: shared by all of them


def _count_in(frames: Synchronized[int]) -> None:
    global _frames
    _frames = frames


def _render(path: Path, subject_seed: int, seconds: float) -> None:
    render_footage(path, subject(subject_seed), seconds, seed=subject_seed, progress=_add)


def _add(frames: int) -> None:
    with _frames.get_lock():
        _frames.value += frames
