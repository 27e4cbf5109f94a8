"""What the motion distance says with little footage: true motion and rivals against the demo's first subject.

    python benchmarks/short_footage.py --minutes 2 --draws 6

A row is a draw of footage. Each cell holds a distance and the number of the panel's bars that are missed.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.demo_subject import FRAME_RATE_HZ, SUBJECT, behaviour, same_person_anew, true_w_plus
from svgan_ray.latents.basis import fit_basis
from svgan_ray.metrics.distance import Standing
from svgan_ray.metrics.evaluation import score_motion

COMPONENTS = 12
SAMPLES, SAMPLE_S = 60, 68.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of footage")
    parser.add_argument("--draws", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    anew = torch.stack(same_person_anew(SAMPLES, SAMPLE_S))
    for draw in range(arguments.draws):
        footage = true_w_plus(behaviour(SUBJECT, draw + 1, 60 * arguments.minutes))
        basis = fit_basis([footage], COMPONENTS)
        generated = torch.stack([basis.project(sample) for sample in anew])
        report = score_motion([basis.project(footage)], generated, FRAME_RATE_HZ, thorough=True)
        cells = {"truth": report.standing, **report.rivals}
        verdict = "fit" if report.is_fit else "not fit"
        print(f"draw {draw + 1}, {verdict}:", ", ".join(f"{k} {_cell(v)}" for k, v in cells.items()))


def _cell(standing: Standing) -> str:
    return f"{standing.motion_distance:.2f} ({len(standing.over)})"


if __name__ == "__main__":
    main()
