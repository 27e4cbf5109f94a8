"""Validation of a training while it goes on: a separate task scores and renders the averaged weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ray.train import Checkpoint
from torch import Tensor

from svgan_ray.device import best_device
from svgan_ray.errors import DataError
from svgan_ray.metrics.distance import floors_by_place, mean_floors
from svgan_ray.metrics.evaluation import (
    WINDOWS_S,
    MotionReport,
    generate_coefficients,
    mean_angle,
    score_motion,
)
from svgan_ray.metrics.features import EVALUATION_COMPONENTS, evaluation_basis
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.train.checkpoints import BEST, take_validated
from svgan_ray.orchestration.train.data import TrainingSet, training_set
from svgan_ray.orchestration.train.gallery import GALLERY, Shown, charts_of, gallery
from svgan_ray.orchestration.train.loop import TrainingJob
from svgan_ray.report.plots import Chart, as_picture
from svgan_ray.runs import Dataset
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.weights import local_weights
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_generator
from svgan_ray.temporal.checkpoints import load_checkpoint
from svgan_ray.temporal.model import MotionModel, model_of
from svgan_ray.temporal.rendering import render
from svgan_ray.temporal.sampling import sample_latents
from svgan_ray.temporal.training import TrainingState, new_state
from svgan_ray.video.pictures import film_strip
from svgan_ray.video.writing import SYNTHETIC_TAGS, write_video

__all__ = [
    "DRIFT",
    "FIDELITY",
    "FRECHET",
    "OBJECTIVE",
    "WORST",
    "Validator",
    "distance_of",
    "frechet_of",
    "generated_motion",
    "measure",
    "require_measurable",
    "sample_rows",
    "scores_of",
    "sides_of",
]

OBJECTIVE = "motion_distance"
FRECHET = "frechet_motion"
"""The score by which earlier versions compared studies and trainings."""
FIDELITY, DRIFT = "fidelity", "drift"
"""Two parts of the Frechet distance: its value at the start of a sample, and its growth within a minute."""
WORST = 1e6
"""The value of each of these scores for motion that diverged or cannot be measured."""
SEED = 0
SAMPLES, SAMPLE_S = 150, 68.0
"""Samples are long enough for windows at 60 s, and enough for a floor that is accurate to a tenth."""
SHOWN_SAMPLES = 3
SHOWN_SIDE = 256
COLUMNS = 10


@dataclass(frozen=True)
class Validator:
    """Measures a checkpoint's motion, renders samples beside real footage; Ray Train calls it."""

    job: TrainingJob
    run: RemoteRun

    def __call__(self, checkpoint: Checkpoint, **_: Any) -> dict[str, float]:
        """Return the scores of the checkpoint, which is kept if it is the best one."""
        with checkpoint.as_directory() as folder:
            state, scores = self._measure(Path(folder))
            if scores:
                self._log(Path(folder), state.step, scores)
        return scores

    def _log(self, folder: Path, step: int, scores: dict[str, float]) -> None:
        """Keep the checkpoint where it is the best; the scores are then its own as well as the run's."""
        model, snapshot = "", self.job.snapshot
        distance, floors = scores[OBJECTIVE], scores[FRECHET]
        if take_validated(self.job.folder, folder, step, distance, floors, WORST):
            model = f"{self.run.key.name} step {step}"
            self.run.log_checkpoint(model, step, f"{self.job.folder}/{BEST}")
        self.run.log_metrics(scores, step, model, Dataset(snapshot.name, snapshot.digest))

    def _measure(self, folder: Path) -> tuple[TrainingState, dict[str, float]]:
        store = open_store(self.job.store)
        state, data = load_checkpoint(folder, best_device()), self._data(store)
        model = self._model(state, data)
        generated = generated_motion(model)
        try:
            scores = scores_of(measure(model, data, generated))
        except DataError:  # footage that is too short to be measured can still be shown
            scores = {}
        charts = charts_of(model, data, generated)
        shown = self._show(store, model, data, charts, state.step)
        self.run.log_file(f"samples/step-{state.step:08d}.mp4", shown.video)
        self.run.log_file(GALLERY, gallery(state.step, charts, shown, scores).encode())
        return state, scores

    def show_beginning(self) -> None:
        """Log pictures before the first step; without them, MLflow's slider would start without a picture."""
        store = open_store(self.job.store)
        data = self._data(store)
        model = self._model(new_state(self.job.config, data.basis.to(best_device()), best_device()), data)
        self._show(store, model, data, charts_of(model, data, generated_motion(model)), step=0)
        self.run.settle()

    def _data(self, store: LatentStore) -> TrainingSet:
        return training_set(store, self.job.snapshot, self.job.config)

    def _model(self, state: TrainingState, data: TrainingSet) -> MotionModel:
        return model_of(state, data.basis.mean, self.job.generator_sha256).to(best_device())

    def _show(
        self,
        store: LatentStore,
        model: MotionModel,
        data: TrainingSet,
        charts: Mapping[str, Sequence[Chart]],
        step: int,
    ) -> Shown:
        weights = local_weights(store, self.job.generator_sha256)
        generator = load_generator(weights, best_device())
        rows = sample_rows(model, data, generator, self.job.sample_seconds)
        labels = ["real", *(f"sample {sample}" for sample in range(SHOWN_SAMPLES))]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "samples.mp4")
            write_video(path, np.concatenate(rows, axis=2), model.frame_rate_hz, SYNTHETIC_TAGS)
            shown = Shown(path.read_bytes(), film_strip(rows, COLUMNS, labels), labels)
        self.run.log_image(shown.strip, "samples", step)
        for name, drawn in charts.items():
            self.run.log_image(as_picture(drawn), name.lower(), step)
        return shown


def require_measurable(data: TrainingSet, frame_rate_hz: float) -> None:
    """Raise DataError unless at least one clip is as long as a window."""
    longest = max(stop - first for first, stop in data.segments) / frame_rate_hz
    if longest < WINDOWS_S[0]:
        raise DataError(
            f"motion is compared in windows of {WINDOWS_S[0]:g} s, the longest clip has {longest:.1f} s; "
            "add longer footage"
        )


def generated_motion(model: MotionModel) -> Tensor:
    """The samples that are measured and drawn: evaluation coefficients [S, T, 16]."""
    frames = round(SAMPLE_S * model.frame_rate_hz)
    return generate_coefficients(model, evaluation_basis(model.basis), SAMPLES, frames, SEED)


def measure(model: MotionModel, data: TrainingSet, generated: Tensor) -> MotionReport:
    """A model's generated motion [S, T, 16] against the clips that it was trained on."""
    variances = evaluation_basis(model.basis).sigma.square().cpu()
    real = [data.coefficients[first:stop, :EVALUATION_COMPONENTS] for first, stop in data.segments]
    return score_motion(real, generated, model.frame_rate_hz, variances, angle=mean_angle(model))


def distance_of(report: MotionReport) -> float:
    """The score that trainings are compared by, which is always finite; smaller is better."""
    return _bounded(report.standing.motion_distance)


def frechet_of(report: MotionReport) -> float:
    """The mean Frechet distance over places in a sample and window lengths, which is always finite.

    It is in multiples of the real-to-real floor. Studies of earlier versions minimise it.
    """
    return _bounded(mean_floors(report.frechet))


def sides_of(report: MotionReport) -> dict[str, float]:
    """Fidelity and drift, which are always finite; smaller is better."""
    places = [values for values in floors_by_place(report.frechet) if values]
    fidelity = _mean([values[0] for values in places])
    return {FIDELITY: fidelity, DRIFT: _mean([max(values[-1] - values[0], 0.0) for values in places])}


def scores_of(report: MotionReport) -> dict[str, float]:
    """What is logged of a report."""
    finite = {name: value for name, value in report.scores().items() if math.isfinite(value)}
    return {**finite, OBJECTIVE: distance_of(report), FRECHET: frechet_of(report), **sides_of(report)}


def _mean(values: list[float]) -> float:
    return _bounded(sum(values) / len(values) if values else WORST)


def _bounded(value: float) -> float:
    return value if math.isfinite(value) and value < WORST else WORST


def sample_rows(
    model: MotionModel, data: TrainingSet, generator: Generator, seconds: float
) -> list[npt.NDArray[np.uint8]]:
    """Real footage, as projected onto the basis, and samples of fixed noises: each uint8 [T, S, S, 3]."""
    first, stop = max(data.segments, key=lambda segment: segment[1] - segment[0])
    frames = min(round(seconds * model.frame_rate_hz), stop - first)
    real = data.basis.reconstruct(data.coefficients[first : first + frames])
    device = model.w_ref.device
    clips = [
        [real.to(device)],
        *(sample_latents(model, SEED, frames, sample) for sample in range(SHOWN_SAMPLES)),
    ]
    side = min(generator.config.resolution, SHOWN_SIDE)
    return [np.concatenate(list(render(generator, clip, side))) for clip in clips]
