"""Weight files of others to weights folders that `--weights` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from svgan_ray.orchestration.runtime.command_line import guarded
from svgan_ray.orchestration.runtime.outputs import require_writable_folder
from svgan_ray.orchestration.runtime.terminal import printable
from svgan_ray.places import expanded
from svgan_ray.stylegan import import_weights

__all__ = ["arguments_of", "main"]


@dataclass(frozen=True)
class Arguments:
    """Import a file: NVIDIA StyleGAN2, rosinality, pSp, e4e, ReStyle, ArcFace, I3D, Inception or LPIPS."""

    file: tyro.conf.Positional[Path]
    """The file; its kind is found in its content, and nothing in it is run."""
    out: Path
    """Folder to write to; comes to hold `generator`, `encoder`, `arc_face`, `i3d`, `inception` or `lpips`."""
    sha256: str | None = None
    """What the file's SHA-256 must be."""


def arguments_of(flags: Sequence[str]) -> Arguments:
    """What a command line asks for."""
    return tyro.cli(Arguments, args=list(flags))


def main(flags: Sequence[str]) -> int:
    """Import, say what was found; returns the exit code."""
    arguments = arguments_of(flags)

    def act() -> int:
        file, out = expanded(str(arguments.file)), Path(expanded(str(arguments.out)))
        require_writable_folder(out, f"--out {out}")
        print(printable(str(import_weights(file, out, arguments.sha256))))
        return 0

    return guarded(act)
