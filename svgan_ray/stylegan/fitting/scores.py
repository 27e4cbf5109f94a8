"""The scores of a fit on frames that it never saw, computed from sums that the workers add up.

The scores are the PSNR of the whole crop, of the eyes and of the mouth, and the sharpness in two octave
bands: the energy of the pictures divided by the footage's, and the coherence, which is the correlation of
pictures and footage within the band. Blur lowers the energy; noise in place of detail raises the energy but
lowers the coherence, so both must be read together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from svgan_ray.stylegan.fitting.regions import region_masks
from svgan_ray.temporal.workers import ALONE, Workers

__all__ = ["BANDS", "HeldOutScores", "ScoreSums"]

BANDS = ((1 / 8, 1 / 4), (1 / 4, 1 / 2))
"""The two finest octaves, in cycles per pixel."""

_PEAK = 2.0  # pixels are in [-1, 1]


@dataclass(frozen=True)
class HeldOutScores:
    """Decibels, shares of the footage's energy, and correlations from -1 to 1."""

    image_db: float
    eyes_db: float
    mouth_db: float
    energy: tuple[float, ...]
    coherence: tuple[float, ...]
    frames: int

    @property
    def mean_db(self) -> float:
        """The score that the best state is chosen by: eyes and mouth count as much as the whole crop."""
        return (self.image_db + self.eyes_db + self.mouth_db) / 3

    def to_dict(self) -> dict[str, float]:
        """One number for each name, as plots and records use them."""
        values = {"image_db": self.image_db, "eyes_db": self.eyes_db, "mouth_db": self.mouth_db}
        for band, (energy, coherence) in enumerate(zip(self.energy, self.coherence, strict=True), 1):
            values |= {f"energy_{band}": energy, f"coherence_{band}": coherence}
        return {"mean_db": self.mean_db} | values


class ScoreSums:
    """Sums over frames, from which the scores are computed; the sums of several workers are added."""

    def __init__(self) -> None:
        self.errors = torch.zeros(3, 2, dtype=torch.float64)  # image, eyes, mouth: squared error, values
        self.spectra = torch.zeros(len(BANDS), 3, dtype=torch.float64)  # of picture, of image, of both
        self.frames = 0

    def add(self, pictures: Tensor, images: Tensor, boxes: Tensor) -> None:
        """Pictures and images [N, 3, S, S] in [-1, 1] (pictures are clipped to it), boxes [N, 2, 4]."""
        pictures = pictures.clamp(-1, 1).float()
        error = (pictures - images).square().mean(dim=1, keepdim=True).double()  # [N, 1, S, S]
        masks = torch.cat([torch.ones_like(error), region_masks(boxes, images.shape[-1])], dim=1)
        sums = torch.stack([(masks * error).sum(dim=(0, 2, 3)), masks.sum(dim=(0, 2, 3))], dim=1)
        self.errors += sums.cpu()
        self.spectra += _band_sums(pictures.mean(dim=1), images.float().mean(dim=1)).cpu()
        self.frames += len(images)

    def total(self, workers: Workers = ALONE) -> HeldOutScores:
        """The scores of all frames that any of the workers has added."""
        sums = torch.cat(
            [self.errors.flatten(), self.spectra.flatten(), torch.tensor([float(self.frames)]).double()]
        )
        *values, frames = workers.sum(sums).tolist()
        errors, spectra = values[:6], values[6:]
        image, eyes, mouth = (_psnr_db(s, n) for s, n in zip(errors[::2], errors[1::2], strict=True))
        triples = list(zip(spectra[::3], spectra[1::3], spectra[2::3], strict=True))
        energy = tuple(y / x if x else math.nan for y, x, _ in triples)
        coherence = tuple(both / math.sqrt(y * x) if y * x else math.nan for y, x, both in triples)
        return HeldOutScores(image, eyes, mouth, energy, coherence, round(frames))


def _psnr_db(squares: float, count: float) -> float:
    """PSNR of the mean squared error over all frames, which a few good frames cannot raise."""
    if count == 0:
        return math.nan
    return 10 * math.log10(_PEAK**2 / max(squares / count, 1e-12))


def _band_sums(pictures: Tensor, images: Tensor) -> Tensor:
    """[N, S, S] each -> energy of both and their product in each band, summed over frames: [bands, 3]."""
    side = images.shape[-1]
    taper = torch.hann_window(side, periodic=False, device=images.device)
    taper = taper[:, None] * taper  # an untapered border would spread over all frequencies
    y, x = torch.fft.rfft2(pictures * taper), torch.fft.rfft2(images * taper)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
    rows = []
    for low, high in BANDS:
        band = ((frequency >= low) & (frequency < high)).to(images.device)
        a, b = y[:, band], x[:, band]
        rows.append(torch.stack([a.abs().square().sum(), b.abs().square().sum(), (a * b.conj()).real.sum()]))
    return torch.stack(rows).double()
