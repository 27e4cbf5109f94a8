"""MLflow's own database, as a run makes it on first use."""

from __future__ import annotations

from pathlib import Path

from svgan_ray.runs import open_run

_PATIENCE_S = 240.0


def make_mlflow_database(folder: Path) -> Path:
    """Its path; its hundreds of migrations take seconds, on a busy machine with a slow disk minutes."""
    database = folder / "mlflow.db"
    run = open_run("any", "any", "demo", "any", None, folder / "spool", f"sqlite:///{database}")
    assert run.flush(_PATIENCE_S), f"no database in {_PATIENCE_S:g} s"
    run.finish()
    return database
