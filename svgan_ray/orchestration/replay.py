"""Sends the events that dead jobs left in a spool to MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from svgan_ray.config import ReplayConfig
from svgan_ray.errors import ConfigError
from svgan_ray.runs import ReplayReport, default_uri, replay, waiting

__all__ = ["Replayed", "plan", "run"]


@dataclass(frozen=True)
class Replayed:
    """The result of a replay; the job fails if MLflow refuses events for good."""

    spool: Path
    report: ReplayReport

    @property
    def exit_code(self) -> int:
        return 1 if self.report.rejected_events else 0

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False)
        table.add_row("runs delivered", str(len(set(self.report.delivered))))
        if self.report.rejected_events:
            refused = f"{self.report.rejected_events} events, in rejected.jsonl below {self.spool}"
            table.add_row("refused by MLflow", refused)
        return table


def run(config: ReplayConfig) -> Replayed:
    """Deliver all waiting events. Raises ConfigError, and MlflowError if the server cannot be reached."""
    folder = _folder(config)
    return Replayed(folder, replay(folder, config.tracking_uri or default_uri()))


def plan(config: ReplayConfig) -> Table:
    """A table of the waiting events; nothing is delivered."""
    table = Table("run", "kind", "opened in experiment", "waiting", box=None)
    for left in waiting(_folder(config)):
        table.add_row(left.info.name, left.info.kind, left.info.experiment, f"{left.size_bytes:,} bytes")
    return table


def _folder(config: ReplayConfig) -> Path:
    folder = Path(config.spool)
    if not folder.is_dir():
        raise ConfigError(f"--spool {config.spool}: no such folder; name mlspool in the job's directory")
    return folder.resolve()
