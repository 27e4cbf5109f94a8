"""Converts weight files of other projects to weights folders that `--weights` takes."""

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
    """The file. Its kind is detected from its content, and no code in it is executed."""
    out: Path
    """Folder to write `generator`, `encoder`, `arc_face`, `i3d`, `inception` or `lpips` into."""
    sha256: str | None = None
    """The SHA-256 that the file must have."""


def arguments_of(flags: Sequence[str]) -> Arguments:
    """The arguments of a command line."""
    return tyro.cli(Arguments, args=list(flags))


def main(flags: Sequence[str]) -> int:
    """Import the file and print what it is; returns the exit code."""
    arguments = arguments_of(flags)

    def act() -> int:
        file, out = expanded(str(arguments.file)), Path(expanded(str(arguments.out)))
        require_writable_folder(out, f"--out {out}")
        print(printable(str(import_weights(file, out, arguments.sha256))))
        return 0

    return guarded(act)
