"""How well the demo weights generate, invert and read portraits of people that they were not trained on.

It prints four scores: the peak signal-to-noise ratio in dB (peak 1, mean over frames) against the renderer,
of the generator and of the encoder followed by the generator, over the image and inside the eye and mouth
regions; the share of variance of each small moving factor that the factor reader explains in reconstructed
frames; the reader's own error per factor; and how straight the factors' directions are in W.

    python benchmarks/demo_weights.py [--weights DIR] [--sheet docs/images/demo_pairs.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from svgan_ray.demo.behaviour import behave, subject
from svgan_ray.demo.embedding import z_of_factors
from svgan_ray.demo.factor_reader import load_factor_reader
from svgan_ray.demo.factors import FACTORS, INDEX, MOVING, NUM_FACTORS, SCORED
from svgan_ray.demo.renderer import region_masks, render
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders
from svgan_ray.video.pictures import contact_sheet, save_png

FIRST_UNSEEN_SUBJECT = 10_000
BATCH = 16


def unseen_frames(subjects: int, frames: int) -> Tensor:
    """Factors [subjects * frames, NUM_FACTORS] of people with different ways to move, a frame per second."""
    people = [subject(FIRST_UNSEEN_SUBJECT + i, own_temperament=True) for i in range(subjects)]
    return torch.cat([behave(person, frames * 25)[::25] for person in people])


def psnr_db(images: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """PSNR [N] over the pixels of the mask [N, 1, H, W]; images are in [-1, 1]."""
    error = ((images.clamp(-1, 1) - target) / 2).square().mean(dim=1, keepdim=True)
    return -10 * torch.log10((error * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)))


@torch.no_grad()
def reconstruct(weights: str, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [N, 3, 128, 128]: rendered, generated from the true latents, and encoded then generated."""
    generator_folder, encoder_folder = weights_folders(weights)
    generator, encoder = load_generator(generator_folder), load_encoder(encoder_folder)
    rendered, drawn, inverted = [], [], []
    for part in torch.split(factors, BATCH):
        rendered.append(render(part, generator.config.resolution))
        drawn.append(generator.synthesis(generator.mapping(z_of_factors(part))))
        inverted.append(generator.synthesis(encoder.encode(rendered[-1])))
    return torch.cat(rendered), torch.cat(drawn), torch.cat(inverted)


def print_fidelity(factors: Tensor, rendered: Tensor, drawn: Tensor, inverted: Tensor) -> None:
    eyes, mouth = region_masks(factors, rendered.shape[-1])
    print(f"{'PSNR in dB, mean (5th percentile)':<36}{'image':>16}{'eyes':>16}{'mouth':>16}")
    for name, images in (("generator against renderer", drawn), ("encoder, then generator", inverted)):
        cells = [psnr_db(images, rendered, mask) for mask in (torch.ones_like(eyes), eyes, mouth)]
        print(f"{name:<36}" + "".join(f"{c.mean():>8.2f} ({c.quantile(0.05):.2f})" for c in cells))


def explained(read: Tensor, truth: Tensor) -> Tensor:
    """Share of the variance explained, per factor: 1 - mean squared error / variance."""
    return 1 - (read - truth).square().mean(dim=0) / truth.var(dim=0)


@torch.no_grad()
def print_reading(factors: Tensor, rendered: Tensor, drawn: Tensor, inverted: Tensor) -> None:
    reader = load_factor_reader()
    shares = [
        explained(torch.cat([reader.read(p.clamp(-1, 1)) for p in torch.split(im, BATCH)]), factors)
        for im in (rendered, drawn, inverted)
    ]
    print(f"\n{'variance explained by the reader':<36}{'rendered':>12}{'generated':>12}{'inverted':>12}")
    for name in (*SCORED, *(m for m in MOVING if m not in SCORED)):
        print(f"{name:<36}" + "".join(f"{share[INDEX[name]]:>12.3f}" for share in shares))
    rest = [share[[i for i, n in enumerate(FACTORS) if n not in MOVING]].mean() for share in shares]
    print(f"{'all that holds still, mean':<36}" + "".join(f"{share:>12.3f}" for share in rest))


@torch.no_grad()
def print_straightness(generator: Generator, people: Tensor) -> None:
    """Cosine between a factor's directions in W (−1 to +1) for different people; 1 means straight."""
    cosines = []
    for column in range(NUM_FACTORS):
        step = torch.zeros(NUM_FACTORS)
        step[column] = 1.0
        up, down = (generator.mapping(z_of_factors(people + sign * step))[:, 0] for sign in (1, -1))
        direction = F.normalize(up - down, dim=1)
        cosines.append(direction @ direction.T)
    every = torch.stack(cosines)
    print(f"\nstraightness of W: cosine of a factor's directions {every.mean():.4f}, least {every.min():.4f}")


def save_sheet(path: Path, *images: Tensor) -> None:
    """Write a sheet with columns of three pictures: rendered, generated, encoded then generated."""
    pixels: NDArray[np.uint8] = (
        ((torch.stack(images, 1).flatten(0, 1).clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    )
    save_png(path, contact_sheet(pixels, columns=12))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="demo", help="weights folder (default: those that ship)")
    parser.add_argument("--subjects", type=int, default=32)
    parser.add_argument("--frames", type=int, default=24, help="frames a subject, one a second")
    parser.add_argument(
        "--sheet", type=Path, help="write a sheet of rendered | generated | inverted portraits here"
    )
    options = parser.parse_args()
    factors = unseen_frames(options.subjects, options.frames)
    images = reconstruct(options.weights, factors)
    print(f"{options.subjects} unseen subjects, {len(factors)} frames\n")
    print_fidelity(factors, *images)
    print_reading(factors, *images)
    print_straightness(load_generator(weights_folders(options.weights)[0]), factors[:: options.frames])
    if options.sheet:
        chosen = torch.arange(0, len(factors), len(factors) // 32)[:32]
        save_sheet(options.sheet, *(part[chosen] for part in images))


if __name__ == "__main__":
    main()
