"""Fitting a generator and an encoder to one person's footage, or several people's.

    generator, encoder = load_generator(folders[0]), load_encoder(folders[1])
    fitter = Fitter(generator, encoder, FittingConfig(what="both", steps=1000), device, workers)
    for step in range(fitter.step, fitter.config.steps):
        frames = draw_frames(groups, config.batch, config.seed, step)[workers.slice(config.batch)]
        losses = fitter.train_step(Batch(crops[frames], boxes[frames]))  # means over all workers
    pictures, images = fitter.reconstruct(batch)  # then ScoreSums().add(...), .total(workers)
    save_checkpoint(fitter, path, extra); extra = load_checkpoint(fitter, path)
    save_fitted(fitter, out, Provenance(*folders, subjects, digest), scores)

`fit(fitter, footage, work)` is that loop for crops in memory. Crops are uint8 [N, S, S, 3] as `crop_span`
returns them, with side `crop_side(generator, encoder)`; boxes come from `regions_of(landmarks, quads)` or
`fixed_regions(N)`. `held_out_split(time_s, duration_s)` chooses the frames of a video that are never trained
on, `outliers(crop_errors(...), subject)` the crops to leave out. The statistics of the encoder's
normalisation are frozen, so the images of a batch do not influence each other.

`what="both"` trains the synthesis network and the encoder on crops. `what="generator"` is pivotal tuning
(Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", 2021): batches carry stored W+, the
pivots; only the synthesis network is trained, and a loss keeps the pictures of other latents unchanged.
"""

from __future__ import annotations

from svgan_ray.stylegan.fitting.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.stylegan.fitting.config import FittingConfig, fastest_precision
from svgan_ray.stylegan.fitting.drawing import draw_frames
from svgan_ray.stylegan.fitting.fitter import Batch, Fitter, crop_side
from svgan_ray.stylegan.fitting.folders import CONSENT, Provenance, save_fitted
from svgan_ray.stylegan.fitting.loop import Footage, crop_errors, fit, score
from svgan_ray.stylegan.fitting.losses import EncoderFeatures
from svgan_ray.stylegan.fitting.regions import FIXED_REGIONS, fixed_regions, regions_of
from svgan_ray.stylegan.fitting.scores import HeldOutScores, ScoreSums
from svgan_ray.stylegan.fitting.split import (
    FEWEST_FRAMES,
    Split,
    held_out_split,
    outliers,
    require_enough,
)

__all__ = [
    "CONSENT",
    "FEWEST_FRAMES",
    "FIXED_REGIONS",
    "Batch",
    "EncoderFeatures",
    "Fitter",
    "FittingConfig",
    "Footage",
    "HeldOutScores",
    "Provenance",
    "ScoreSums",
    "Split",
    "crop_errors",
    "crop_side",
    "draw_frames",
    "fastest_precision",
    "fit",
    "fixed_regions",
    "held_out_split",
    "load_checkpoint",
    "outliers",
    "regions_of",
    "require_enough",
    "save_checkpoint",
    "save_fitted",
    "score",
]
