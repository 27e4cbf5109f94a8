"""Commands that a job suggests as the next step: quoted for the shell, on one line, ready to be copied."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from svgan_ray.errors import ConfigError
from svgan_ray.experiment_file import SECTIONS
from svgan_ray.orchestration.runtime.command_line import named_experiment_file
from svgan_ray.places import expanded

__all__ = ["command", "next_step"]


def next_step(job: str, **settings: str | None) -> Text:
    """The line that suggests a command. It is never wrapped, because a broken name would not run."""
    return Text(f" next  {command(job, **settings)}", no_wrap=True, overflow="ignore")


def command(job: str, **settings: str | None) -> str:
    """The command of a job with these settings, without those that the job would take anyway."""
    program = ["svgan-ray", job] if Path(sys.argv[0]).name == "svgan-ray" else ["python", f"jobs/{job}.py"]
    usual = _usual(job)
    flags: list[str] = []
    for name, value in settings.items():
        if value is None or _is_same(value, usual.get(name)):
            continue
        flag = f"--{name.replace('_', '-')}"
        # A value that begins with a dash would be read as a flag.
        flags += [f"{flag}={value}"] if value.startswith("-") else [flag, value]
    return " ".join(map(_quoted, [*program, *flags]))


def _usual(job: str) -> dict[str, Any]:
    """The settings that the job takes without flags in this folder; none if its file cannot be read."""
    try:
        return dict(vars(named_experiment_file().config(SECTIONS[job])))
    except ConfigError:
        return {}


def _is_same(value: str, usual: object) -> bool:
    """Whether a setting is the usual one; places count as the same if they are, relative or not."""
    if not isinstance(usual, str):
        return False
    return value == usual or (not value.startswith("s3://") and value == os.path.abspath(expanded(usual)))


def _quoted(word: str) -> str:
    """A word for bash or zsh; characters that a terminal would not print are given as bytes."""
    if word.isprintable():
        return shlex.quote(word)
    signs = (f"\\{sign}" if sign in "\\'" else sign if sign.isprintable() else _bytes(sign) for sign in word)
    return f"$'{''.join(signs)}'"


def _bytes(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))
