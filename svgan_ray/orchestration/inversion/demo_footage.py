"""Footage of the demo's subjects, rendered on first use."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from svgan_ray.orchestration.cluster import durable

__all__ = ["demo_footage"]


def demo_footage(
    render: bool = True, folder: str = "demo/footage", subjects: int = 3, seconds: float = 60.0
) -> list[Path]:
    """Paths of subject-1.mp4, subject-2.mp4, ...; what is absent is rendered here, not on the cluster."""
    place = Path(durable(folder, "the demo's footage"))
    paths = [place / f"subject-{number}.mp4" for number in range(1, subjects + 1)]
    absent = [(path, number, seconds) for number, path in enumerate(paths, 1) if not path.exists()]
    if render and absent:
        place.mkdir(parents=True, exist_ok=True)
        # Spawned: a fork of a process in which torch has threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(absent), os.cpu_count() or 1), context) as pool:
            list(pool.map(_render, absent))
    return paths


def _render(work: tuple[Path, int, float]) -> None:
    from svgan_ray.demo.behaviour import subject
    from svgan_ray.demo.footage import render_footage

    path, subject_seed, seconds = work
    render_footage(path, subject(subject_seed), seconds, seed=subject_seed)
