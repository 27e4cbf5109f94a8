"""Stages that are done once; a file that is written atomically records the inputs and outputs of each one.

A stage counts as finished while its inputs are unchanged and its outputs are still in the folder. Within a
stage, the job that it calls resumes by its own means.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svgan_ray.errors import ConfigError
from svgan_ray.files import write_whole

__all__ = ["Finished", "Stage", "StateFile"]

_SCHEMA = 1
_REMEDY = "remove the folder or name another with --folder"


@dataclass(frozen=True)
class Stage:
    """One step of the demo. `work` returns the figure that its row in the table shows."""

    name: str
    about: str
    inputs: str
    """Hash of everything that decides the result, the stages before it included."""
    outputs: tuple[Path, ...]
    """Files and folders, inside the demo's folder, without which the stage is not finished."""
    work: Callable[[], str]
    needs_ray: bool = True
    expected_s: float = 0.0
    """Time that it takes on two quiet cores, as far as that is known beforehand."""


@dataclass(frozen=True)
class Finished:
    """The record of a stage that has ended."""

    inputs: str
    figure: str
    duration_s: float
    peak_bytes: int | None
    outputs: Mapping[str, int]
    """Size of every output file by its place in the folder; a folder counts as its files."""


class StateFile:
    """`state.json` of one demo folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Open or create it. Raises ConfigError if the folder holds a demo with other settings."""
        self._folder = folder
        self._path = folder / "state.json"
        self._settings = dict(settings)
        self._stages = self._read()

    def finished(self, stage: Stage) -> Finished | None:
        """The record of the stage, if it is still valid."""
        record = self._stages.get(stage.name)
        if record is None or record.inputs != stage.inputs:
            return None
        return record if record.outputs == self._sizes(stage.outputs) else None

    def finish(self, stage: Stage, figure: str, duration_s: float, peak_bytes: int | None) -> Finished:
        """Record that the stage has just ended."""
        record = Finished(stage.inputs, figure, duration_s, peak_bytes, self._sizes(stage.outputs))
        self._stages[stage.name] = record
        stages = {name: dataclasses.asdict(record) for name, record in self._stages.items()}
        self._write({"schema": _SCHEMA, "settings": self._settings, "stages": stages})
        return record

    def _read(self) -> dict[str, Finished]:
        if not self._path.exists():
            return {}
        try:
            document = json.loads(self._path.read_text("utf-8"))
            schema, settings, stages = (document[key] for key in ("schema", "settings", "stages"))
            records = {name: Finished(**values) for name, values in stages.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self._path} is no state of a demo ({error}); {_REMEDY}") from error
        if (schema, settings) != (_SCHEMA, self._settings):
            raise ConfigError(
                f"{self._folder} holds a demo made with {_shown(settings)}, "
                f"this one has {_shown(self._settings)}; {_REMEDY}"
            )
        return records

    def _write(self, document: Mapping[str, Any]) -> None:
        write_whole(self._path, json.dumps(document, indent=2))

    def _sizes(self, outputs: tuple[Path, ...]) -> dict[str, int]:
        """Empty where an output is missing or an empty folder, which no finished stage leaves."""
        sizes: dict[str, int] = {}
        for output in outputs:
            files = [f for f in output.rglob("*") if f.is_file()] if output.is_dir() else [output]
            if not files or not all(f.exists() for f in files):
                return {}
            sizes |= {f.relative_to(self._folder).as_posix(): f.stat().st_size for f in sorted(files)}
        return sizes


def _shown(settings: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in settings.items()) if isinstance(settings, dict) else str(settings)
