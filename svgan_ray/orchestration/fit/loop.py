"""The loop of each worker of a fit: steps, curves, scores on held-out frames, checkpoints.

The frames of a step are a function of seed and step, and a checkpoint holds everything else. So a fit that
was killed and resumed is bit-equal to one that was not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from svgan_ray.errors import DivergenceError
from svgan_ray.orchestration.fit.data import Rows, Shard, shard_name
from svgan_ray.orchestration.fit.page import Progress, fit_page, pair_strip
from svgan_ray.orchestration.fit.schedule import Mask, Schedule
from svgan_ray.orchestration.runtime.journal import RemoteRun
from svgan_ray.orchestration.runtime.worker_groups import Uploader, make_process_deterministic, worker_group
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.weights import local_weights
from svgan_ray.stylegan.fitting import (
    Batch,
    Fitter,
    FittingConfig,
    HeldOutScores,
    ScoreSums,
    crop_errors,
    fixed_regions,
    load_checkpoint,
    outliers,
    save_checkpoint,
)
from svgan_ray.stylegan.resize import resize_antialiased
from svgan_ray.stylegan.weights import load_encoder, load_generator
from svgan_ray.temporal.workers import Workers

__all__ = [
    "CHECKPOINT",
    "SCORE",
    "FittingJob",
    "Outcome",
    "PersonalFit",
    "fit_worker",
    "fitter_of",
    "places_of",
]

LOG_EVERY_STEPS = 20
CHECKPOINT = "fitting.safetensors"
SCORE = "held_out/best_mean_db"
SHOWN_PAIRS, SHOWN_SIDE = 8, 128
_OUTLIERS_AFTER = 0.4  # share of the steps after which a crop's error shows whether it is an outlier
_OUTLIER_STRIDE = 4  # neighbouring frames have nearly the same error
_AT_ONCE = 8


@dataclass(frozen=True)
class FittingJob:
    """The settings of a fit that every worker needs."""

    id: str
    config: FittingConfig
    store: str
    generator_sha256: str
    encoder_sha256: str
    schedule: Schedule
    held_out: Schedule
    counts: tuple[int, ...]
    """Training frames of each subject."""
    checkpoint_every_steps: int
    folder: str
    """The folder of its checkpoints."""


@dataclass(frozen=True)
class Outcome:
    """The progress of a fit; `diverged` tells why it cannot go on."""

    steps: int
    elapsed_s: float
    left_out: tuple[int, ...]
    """Numbers of the frames that are outliers."""
    before: dict[str, float]
    """Scores before the first step."""
    diverged: str = ""


def places_of(workers: Workers, batch: int) -> range:
    """The places of the batch that a worker computes."""
    own = workers.slice(batch)
    return range(own.start, own.stop)


def fitter_of(job: FittingJob, store: LatentStore, device: torch.device, workers: Workers) -> Fitter:
    """A fitter with the networks that the fit begins with, ready for its first step."""
    generator = load_generator(local_weights(store, job.generator_sha256))
    encoder = load_encoder(local_weights(store, job.encoder_sha256))
    return Fitter(generator, encoder, job.config, device, workers)


@dataclass
class PersonalFit:
    """A fitter and this worker's frames."""

    fitter: Fitter
    training: Shard
    held_out: Shard
    schedule: Schedule
    counts: tuple[int, ...]
    left_out: Mask  # [F] frames that are outliers

    def train_step(self) -> dict[str, float]:
        """One step of all workers; returns its losses."""
        step = self.fitter.step
        self.training.load(self.schedule.portion_at(step))
        if step == round(_OUTLIERS_AFTER * self.fitter.config.steps):
            self.left_out = self._standing_out()
        numbers = [self.schedule.frame(place, step, self.left_out) for place in self.training.places]
        return self.fitter.train_step(self.training.batch(numbers))

    def score(self) -> HeldOutScores:
        """Scores of all workers' held-out frames, in the fixed boxes."""
        sums = ScoreSums()
        for batch in _batches(self.held_out, self.held_out.numbers()):
            pictures, images = self.fitter.reconstruct(batch)
            sums.add(pictures, images, fixed_regions(len(batch)).to(pictures.device))
        return sums.total(self.fitter.workers)

    def pairs(self, count: int) -> npt.NDArray[np.uint8]:
        """Held-out frames and their pictures [2, count, s, s, 3], the same ones each time."""
        workers = self.fitter.workers
        places = workers.count(len(self.held_out.numbers()))
        wanted = np.linspace(0, places - 1, count).round().astype(int).tolist()
        side = min(SHOWN_SIDE, self.fitter.generator.config.resolution)
        shown = torch.zeros(2, count, 3, side, side)
        for at, number in enumerate(wanted):
            if number in self.held_out.numbers():
                pictures, images = self.fitter.reconstruct(self.held_out.batch([number]))
                pair = torch.cat([images, pictures]).float().clamp(-1, 1)
                shown[:, at] = resize_antialiased(pair, side).cpu()
        pixels = workers.sum(shown).add(1).mul(127.5).round().clamp(0, 255).byte()
        return pixels.permute(0, 1, 3, 4, 2).numpy()

    def _standing_out(self) -> Mask:
        """Loaded frames whose error is an outlier among those of their subject; one in a few is measured."""
        error = torch.zeros(len(self.left_out), dtype=torch.float64)
        measured = torch.zeros(len(self.left_out))
        own = self.training.numbers()[::_OUTLIER_STRIDE]
        for batch, numbers in zip(_batches(self.training, own), _parts(own), strict=True):
            error[numbers] = crop_errors(self.fitter, batch).double()
            measured[numbers] = 1
        workers = self.fitter.workers
        error, seen = workers.sum(error), workers.sum(measured).numpy() > 0
        subject = np.repeat(np.arange(len(self.counts)), self.counts)
        standing_out = np.zeros(len(self.left_out), np.bool_)
        standing_out[seen] = outliers(error.numpy()[seen], subject[seen])
        return _with_followers(standing_out, seen)


def _with_followers(standing_out: Mask, measured: Mask) -> Mask:
    """The mask in which each measured frame also decides for the frames up to the next measured one."""
    last = np.maximum.accumulate(np.where(measured, np.arange(len(measured)), -1))
    near = np.arange(len(measured)) - last < _OUTLIER_STRIDE
    return np.asarray((last >= 0) & near & standing_out[last])


def _batches(shard: Shard, numbers: list[int]) -> Iterable[Batch]:
    return (shard.batch(part) for part in _parts(numbers))


def _parts(numbers: list[int]) -> list[list[int]]:
    return [numbers[first : first + _AT_ONCE] for first in range(0, len(numbers), _AT_ONCE)]


def fit_worker(job: FittingJob, run: RemoteRun) -> Outcome:
    """Fit from the last registered checkpoint on; every worker of the group runs this."""
    make_process_deterministic()
    device, workers = ray.train.torch.get_device(), worker_group()
    fitter = fitter_of(job, open_store(job.store), device, workers)
    fit = PersonalFit(
        fitter,
        _shard("training", job.schedule, workers, job.config.batch),
        _shard("held_out", job.held_out, workers, job.config.batch),
        job.schedule,
        job.counts,
        np.zeros(sum(job.counts), np.bool_),
    )
    fit.held_out.load(0)
    teller = _Teller(job, run, fit, _resume(fit))
    if fitter.step == 0:
        teller.show(fit.score())
    try:
        while fitter.step < job.config.steps:
            losses = fit.train_step()
            is_over = fitter.step == job.config.steps
            if fitter.step % LOG_EVERY_STEPS == 1 or is_over:
                teller.tell(losses)
            if is_over or fitter.step % job.checkpoint_every_steps == 0:
                scores = fit.score()
                teller.show(scores)
                teller.report(scores)
    except DivergenceError as error:  # the same on all workers: the losses are global means
        return teller.outcome(str(error))
    return teller.outcome()


def _shard(kind: str, schedule: Schedule, workers: Workers, batch: int) -> Shard:
    shard = ray.train.get_dataset_shard(shard_name(kind, workers.rank))

    def read() -> Iterable[Rows]:
        rows: Iterable[Rows] = shard.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)
        return rows

    return Shard(read, schedule, places_of(workers, batch))


def _resume(fit: PersonalFit) -> Progress:
    """Load the last checkpoint into the fitter; returns the scores up to then."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Progress()
    with checkpoint.as_directory() as folder:
        extra = load_checkpoint(fit.fitter, Path(folder, CHECKPOINT))
    fit.left_out[extra["left_out"]] = True
    return Progress(**extra["progress"])


class _Teller:
    """What a worker tells of the fit: to the run and, with checkpoints, to Ray."""

    def __init__(self, job: FittingJob, run: RemoteRun, fit: PersonalFit, progress: Progress) -> None:
        self._job, self._run, self._fit, self._progress = job, run, fit, progress
        self._began_s = time.monotonic() - progress.elapsed_s
        self._is_first = fit.fitter.workers.rank == 0
        self._last = fit.fitter.step, time.monotonic()

    def tell(self, losses: dict[str, float]) -> None:
        """Curves of the training."""
        step, now_s = self._fit.fitter.step, time.monotonic()
        images = (step - self._last[0]) * self._job.config.batch
        rates = {"images_per_s": images / (now_s - self._last[1]), "minutes": self._elapsed_s / 60}
        self._last = step, now_s
        if self._is_first:
            values = {f"fit/{name}": value for name, value in {**losses, **rates}.items()}
            self._run.log_metrics(values, step)

    def show(self, scores: HeldOutScores) -> None:
        """Scores, a strip of pairs, the page."""
        step, pairs = self._fit.fitter.step, self._fit.pairs(SHOWN_PAIRS)
        self._progress.add(step, scores, self._elapsed_s)
        if not self._is_first:
            return
        values = {f"held_out/{name}": value for name, value in scores.to_dict().items()}
        self._run.log_metrics(values, step)
        strip = pair_strip(pairs)
        self._run.log_image(strip, "held-out pairs", step)
        self._run.log_file("gallery.html", fit_page(self._progress, strip).encode())

    def report(self, scores: HeldOutScores) -> None:
        """Report a checkpoint to Ray, which uploads it while the fit goes on and keeps the best one."""
        fitter, checkpoint = self._fit.fitter, None
        if self._is_first:
            folder = tempfile.mkdtemp(prefix="checkpoint-")  # Ray removes it after the upload
            extra = {"left_out": self._left_out(), "progress": self._progress.to_dict()}
            save_checkpoint(fitter, Path(folder, CHECKPOINT), extra)
            checkpoint = Checkpoint.from_directory(folder)
        ray.train.report(
            {"step": fitter.step, **scores.to_dict()},
            checkpoint,
            checkpoint_dir_name=f"step-{fitter.step:08d}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=Uploader(self._job.folder),
        )

    def outcome(self, diverged: str = "") -> Outcome:
        left_out, before = tuple(self._left_out()), self._progress.scores[0]
        return Outcome(self._fit.fitter.step, self._elapsed_s, left_out, before, diverged)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _left_out(self) -> list[int]:
        return [int(number) for number in np.flatnonzero(self._fit.left_out)]
