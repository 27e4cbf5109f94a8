"""MLflow's own database, as a tracker makes it on first use."""

from __future__ import annotations

from pathlib import Path

from svgan_ray.tracking import open_tracker

_PATIENCE_S = 240.0


def make_tracking_database(folder: Path) -> Path:
    """Its path; its hundreds of migrations take seconds, on a busy machine with a slow disk minutes."""
    database = folder / "mlflow.db"
    tracker = open_tracker("any", "any", "demo", "any", None, folder / "spool", f"sqlite:///{database}")
    assert tracker.flush(_PATIENCE_S), f"no database in {_PATIENCE_S:g} s"
    tracker.finish()
    return database
