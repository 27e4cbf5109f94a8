"""From a checkpoint to weights: folders that every job takes, on a disk or on S3."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from svgan_ray.orchestration.fit.footage import Footage
from svgan_ray.orchestration.fit.loop import CHECKPOINT
from svgan_ray.orchestration.fit.plan import Finished, FitPlan
from svgan_ray.orchestration.runtime.folders import folder_backend
from svgan_ray.stylegan.fitting import (
    Fitter,
    HeldOutScores,
    Provenance,
    load_checkpoint,
    save_fitted,
)
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_hash

__all__ = ["export_weights", "left_out_spans"]


def export_weights(plan: FitPlan, finished: Finished) -> str:
    """Write the networks of the best checkpoint to their place; returns the generator's hash.

    Each network's record is written last, so that a reader never sees a mixture.
    """
    assert plan.settled is not None
    fitter = Fitter(
        load_generator(plan.folders[0]), load_encoder(plan.folders[1]), plan.fitting(plan.settled.steps)
    )
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, CHECKPOINT)
        backend = folder_backend(f"{plan.folder}/step-{finished.best_step:08d}")
        path.write_bytes(backend.get(CHECKPOINT))
        load_checkpoint(fitter, path)
        provenance = Provenance(*plan.folders, plan.footage.subjects, plan.digest)
        folder = save_fitted(fitter, Path(temporary, "fitted"), provenance, _scores(plan, finished))
        _publish(folder, plan.out)
        return weights_hash(folder / "generator")


def left_out_spans(footage: Footage, left_out: Sequence[int]) -> list[str]:
    """The outliers, as spans of their videos."""
    spans = []
    for _, group in groupby(enumerate(left_out), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        first, last = footage.place(numbers[0]), footage.place(numbers[-1])
        spans.append(f"{Path(first.uri).name}, {first.time_s:.1f} to {last.time_s:.1f} s")
    return spans


def _publish(folder: Path, uri: str) -> None:
    backend = folder_backend(uri)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for record in ("generator/model.json", "encoder/model.json"):
        backend.delete(record)
    for path in sorted(files, key=lambda path: (path.name == "model.json", path)):
        backend.put(path.relative_to(folder).as_posix(), path.read_bytes())


def _scores(plan: FitPlan, finished: Finished) -> HeldOutScores:
    values = finished.scores
    bands = range(1, 1 + sum(name.startswith("energy_") for name in values))
    return HeldOutScores(
        image_db=values["image_db"],
        eyes_db=values["eyes_db"],
        mouth_db=values["mouth_db"],
        energy=tuple(values[f"energy_{band}"] for band in bands),
        coherence=tuple(values[f"coherence_{band}"] for band in bands),
        frames=int(np.sum(plan.footage.held_out)),
    )
