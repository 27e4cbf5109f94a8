"""What does the demo world look like? A sheet of 64 drawn people.

python analysis/demo_world.py [--out demo_world.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from svgan_ray.demo.factors import NUM_FACTORS
from svgan_ray.demo.renderer import render
from svgan_ray.video.pictures import contact_sheet, save_png

SIDE, COLUMNS = 128, 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_world.png"))
    options = parser.parse_args()
    people = torch.randn(COLUMNS**2, NUM_FACTORS, generator=torch.Generator().manual_seed(0))
    pixels = ((render(people, SIDE) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    save_png(options.out, contact_sheet(pixels, columns=COLUMNS))


if __name__ == "__main__":
    main()
