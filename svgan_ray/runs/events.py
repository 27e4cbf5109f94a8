"""The type of all events of a run, and the line of JSON that stores an event in a spool.

A new kind of event is declared in two places: a method of `Run` (run.py), which creates it, and a row of the
table in mlflow_sink.py, which sends it to MLflow.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Attachment", "Event"]


@dataclass(frozen=True)
class Attachment:
    """A file or folder that belongs to an event, and its name."""

    name: str
    content: bytes | npt.NDArray[np.uint8] | Path
    """Bytes and arrays are part of the event, and an array is stored as NumPy's .npy; a path is copied."""

    def write(self, target: Path) -> None:
        """Write the content to `target`. Raises OSError."""
        if isinstance(self.content, bytes):
            target.write_bytes(self.content)
        elif isinstance(self.content, np.ndarray):
            np.save(target, self.content, allow_pickle=False)
        elif self.content.is_dir():
            shutil.copytree(self.content, target)
        else:
            shutil.copyfile(self.content, target)


@dataclass(frozen=True)
class Event:
    """One event of a run: its kind, values that JSON can represent, and optionally a file."""

    kind: str
    payload: Mapping[str, Any]
    attachment: Attachment | None = None

    @property
    def file(self) -> Path:
        """The path of the attachment of an event that was read from a spool."""
        assert self.attachment is not None and isinstance(self.attachment.content, Path)
        return self.attachment.content

    def record(self, file: Path | None) -> dict[str, Any]:
        """The event as JSON values; `file` is its attachment's path in the spool's folder."""
        return {"kind": self.kind, **self.payload} | ({"file": str(file)} if file else {})

    @classmethod
    def parse(cls, line: bytes, folder: Path) -> Event | None:
        """The event of a line in the spool `folder`; None if the line is not an event."""
        try:
            payload = json.loads(line)
        except ValueError:
            return None
        if not isinstance(payload, dict) or "kind" not in payload:
            return None
        kind, file = payload.pop("kind"), payload.pop("file", None)
        return cls(kind, payload, Attachment(Path(file).name, folder / file) if file else None)
