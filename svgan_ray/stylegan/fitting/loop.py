"""A whole fit in one process with all crops in memory; a cluster does the same with shards of the crops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from svgan_ray.files import written_whole
from svgan_ray.stylegan.fitting.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.stylegan.fitting.drawing import draw_frames
from svgan_ray.stylegan.fitting.fitter import Batch, Fitter
from svgan_ray.stylegan.fitting.regions import fixed_regions
from svgan_ray.stylegan.fitting.scores import HeldOutScores, ScoreSums
from svgan_ray.stylegan.fitting.split import outliers
from svgan_ray.temporal.checkpoints import under

__all__ = ["Footage", "crop_errors", "fit", "score"]

CHECKPOINT, BEST = "fitting.safetensors", "best.safetensors"
_OUTLIERS_AFTER = 0.4  # share of the steps after which a crop's error shows whether it is an outlier
_OUTLIER_STRIDE = 4  # neighbouring frames have nearly the same error
_SCORED_AT_ONCE = 16

Report = Callable[[int, dict[str, float], HeldOutScores | None], None]
"""Called after each step with its number, its losses, and the held-out scores if they were measured."""


@dataclass(frozen=True, eq=False)
class Footage:
    """Crops of all subjects, concatenated.

    crops     [T, S, S, 3] uint8
    boxes     [T, 2, 4] eyes and mouth, for the losses; scores take the fixed boxes
    training  [T] bool, frames that may be trained on
    held_out  [T] bool, frames that the scores are measured on
    subject   [T] int64, number of the subject, from 0
    w_plus    [T, num_ws, w_dim], needed if the generator alone is tuned
    """

    crops: Tensor
    boxes: Tensor
    training: Tensor
    held_out: Tensor
    subject: Tensor
    w_plus: Tensor | None = None

    def batch(self, frames: Tensor) -> Batch:
        """Frames by their numbers [N]."""
        w_plus = None if self.w_plus is None else self.w_plus[frames]
        return Batch(self.crops[frames], self.boxes[frames], w_plus)

    def groups(self, left_out: Tensor) -> list[Tensor]:
        """Numbers of each subject's training frames, without those in `left_out` [M]."""
        usable = self.training.clone()
        usable[left_out] = False
        count = int(self.subject.max()) + 1
        return [torch.nonzero(usable & (self.subject == number)).flatten() for number in range(count)]


def fit(
    fitter: Fitter,
    footage: Footage,
    work: str | Path,
    score_every_steps: int = 100,
    report: Report = lambda *_: None,
) -> tuple[HeldOutScores, Tensor]:
    """Run a fit to its end, from its last checkpoint in the folder `work` if there is one.

    The fitter then holds the state with the best held-out score. Returns that state's scores on all held-out
    frames and the numbers of the crops that were left out.
    """
    work = Path(work)
    left_out = _resume(fitter, work)
    scored = torch.nonzero(footage.held_out).flatten()[::_OUTLIER_STRIDE]
    while fitter.step < fitter.config.steps:
        if fitter.step == round(_OUTLIERS_AFTER * fitter.config.steps):
            left_out = _stand_out(fitter, footage)
        config = fitter.config
        frames = draw_frames(footage.groups(left_out), config.batch, config.seed, fitter.step)
        own = frames[fitter.workers.slice(config.batch)]
        losses, scores = fitter.train_step(footage.batch(own)), None
        if fitter.step % score_every_steps == 0 or fitter.step == config.steps:
            scores = score(fitter, footage, scored)
            _keep(fitter, work, scores, left_out)
        report(fitter.step, losses, scores)
    load_networks(fitter, work / BEST)
    return score(fitter, footage, torch.nonzero(footage.held_out).flatten()), left_out


def score(fitter: Fitter, footage: Footage, frames: Tensor) -> HeldOutScores:
    """Scores of frames by their numbers [N], in the fixed boxes; workers share them."""
    sums, workers = ScoreSums(), fitter.workers
    for part in frames[workers.slice(len(frames))].split(_SCORED_AT_ONCE):
        pictures, images = fitter.reconstruct(footage.batch(part))
        sums.add(pictures, images, fixed_regions(len(part)).to(pictures.device))
    return sums.total(workers)


def crop_errors(fitter: Fitter, batch: Batch) -> Tensor:
    """Root mean squared error of each crop [N], for pixels in 0 to 1."""
    pictures, images = fitter.reconstruct(batch)
    return (pictures.clamp(-1, 1) - images).square().mean(dim=(1, 2, 3)).sqrt().div(2).cpu()


def save_networks(fitter: Fitter, path: Path) -> None:
    """Write the networks alone, atomically."""
    tensors = {
        f"{owner}.{name}": tensor.contiguous().cpu()
        for owner, module in fitter.modules().items()
        for name, tensor in module.state_dict().items()
    }
    with written_whole(path) as partial:
        save_file(tensors, partial)


def load_networks(fitter: Fitter, path: Path) -> None:
    """Load the networks that `save_networks` wrote."""
    tensors = load_file(path)
    for owner, module in fitter.modules().items():
        module.load_state_dict(under(tensors, owner))


def _resume(fitter: Fitter, work: Path) -> Tensor:
    work.mkdir(parents=True, exist_ok=True)
    extra: dict[str, Any] = {"left_out": []}
    if (work / CHECKPOINT).exists():
        extra = load_checkpoint(fitter, work / CHECKPOINT)
    return torch.tensor(extra["left_out"], dtype=torch.long)


def _keep(fitter: Fitter, work: Path, scores: HeldOutScores, left_out: Tensor) -> None:
    """Write the best networks before the checkpoint, which therefore never names a missing best state."""
    if fitter.workers.rank != 0:
        return
    if fitter.best_db is None or scores.mean_db > fitter.best_db:
        fitter.best_db = scores.mean_db
        save_networks(fitter, work / BEST)
    save_checkpoint(fitter, work / CHECKPOINT, {"left_out": left_out.tolist()})


def _stand_out(fitter: Fitter, footage: Footage) -> Tensor:
    """Numbers of the training crops that are outliers; one of a few neighbours is measured for all."""
    candidates = torch.nonzero(footage.training).flatten()
    measured = candidates[::_OUTLIER_STRIDE]
    parts = [crop_errors(fitter, footage.batch(part)) for part in measured.split(_SCORED_AT_ONCE)]
    errors = torch.cat(parts).numpy()
    out = np.repeat(outliers(errors, footage.subject[measured].numpy()), _OUTLIER_STRIDE)
    return candidates[torch.from_numpy(out[: len(candidates)])]
