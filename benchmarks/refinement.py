"""How refinement improves the demo encoder: the error of the pictures, and their jitter.

The footage shows unseen people at 25 frames a second. PSNR is in dB (peak 1) over all frames. Jitter is the
root mean square of the second difference over time of all pixels, as a multiple of the footage's jitter.

    python benchmarks/refinement.py [--steps 100] [--subjects 3] [--frames 12]
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from svgan_ray.demo.behaviour import behave, subject
from svgan_ray.demo.renderer import render
from svgan_ray.stylegan.refinement import RefinementConfig, refine
from svgan_ray.stylegan.weights import load_encoder, load_generator, weights_folders

FIRST_UNSEEN_SUBJECT = 10_000


def psnr_db(pictures: Tensor, footage: Tensor) -> float:
    """PSNR over all frames [T, 3, S, S] in [-1, 1]."""
    return float(-10 * ((pictures.clamp(-1, 1) - footage) / 2).square().mean().log10())


def jitter(pictures: Tensor) -> float:
    """Root mean square of the second difference over time of pictures [T, 3, S, S]."""
    return float(pictures.clamp(-1, 1).diff(n=2, dim=0).square().mean().sqrt())


def main() -> None:
    """Print one row per subject."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=RefinementConfig.steps)
    parser.add_argument("--learning-rate", type=float, default=RefinementConfig.learning_rate)
    parser.add_argument("--distance-weight", type=float, default=RefinementConfig.distance_weight)
    parser.add_argument("--smoothness-weight", type=float, default=RefinementConfig.smoothness_weight)
    parser.add_argument("--acceleration-weight", type=float, default=RefinementConfig.acceleration_weight)
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--frames", type=int, default=12)
    arguments = parser.parse_args()
    config = RefinementConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        distance_weight=arguments.distance_weight,
        smoothness_weight=arguments.smoothness_weight,
        acceleration_weight=arguments.acceleration_weight,
    )
    generator_folder, encoder_folder = weights_folders("demo")
    generator, encoder = load_generator(generator_folder), load_encoder(encoder_folder)
    print("| subject | frames | steps | encoder | refined | gain | jitter, encoder | refined | seconds |")
    print("|" + "---|" * 9)
    for number in range(arguments.subjects):
        person = subject(FIRST_UNSEEN_SUBJECT + number, own_temperament=True)
        footage = render(behave(person, arguments.frames), generator.config.resolution)
        with torch.inference_mode():
            encoded = encoder.encode(footage)
            start = time.process_time()
            refined = refine(footage, encoded, generator.synthesis, config)
            seconds = time.process_time() - start
            before, after = generator.synthesis(encoded), generator.synthesis(refined)
        first, last = psnr_db(before, footage), psnr_db(after, footage)
        motion = jitter(footage)
        print(
            f"| {number} | {arguments.frames} | {config.steps} | {first:.1f} dB | {last:.1f} dB | "
            f"{last - first:+.1f} dB | {jitter(before) / motion:.2f} | {jitter(after) / motion:.2f} | "
            f"{seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
