#!/usr/bin/env python3
"""Weight files of others to weights folders that `--weights` takes; docs/weights.md says which."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from svgan_ray.errors import SvganRayError
from svgan_ray.stylegan import import_weights


@dataclass(frozen=True)
class Arguments:
    """Import a file: NVIDIA StyleGAN2, rosinality, pSp, e4e, ReStyle, ArcFace, I3D, Inception or LPIPS."""

    file: tyro.conf.Positional[Path]
    """The file; its kind is found in its content, and nothing in it is run."""
    out: Path
    """Folder to write to; comes to hold `generator`, `encoder`, `arc_face`, `i3d`, `inception` or `lpips`."""
    sha256: str | None = None
    """What the file's SHA-256 must be."""


def main() -> int:
    """Import, say what was found; the exit code."""
    arguments = tyro.cli(Arguments)
    try:
        print(import_weights(arguments.file, arguments.out, arguments.sha256))
        return 0
    except SvganRayError as error:
        console = Console(stderr=True, style="red", highlight=False, soft_wrap=True)
        console.print(f"error: {error}", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
