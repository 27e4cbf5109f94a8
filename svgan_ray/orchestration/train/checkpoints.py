"""Stores the best checkpoint by validation; Ray itself keeps the last ones.

Beside them, `validated.json` records the best one so far, and why the training must end if its motion
exploded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from svgan_ray.orchestration.runtime.folders import publish_folder, read_record, write_record
from svgan_ray.temporal.checkpoints import RECORD

__all__ = ["BEST", "EXPLOSION", "explosion_of", "take_validated"]

BEST = "best"
"""Name of the best checkpoint's folder, beside the others."""
EXPLOSION = 100.0
"""A distance that is this many times the best one so far is an explosion and not a fluctuation."""
VALIDATED = "validated.json"


def take_validated(
    folder: str, checkpoint: Path, step: int, distance: float, floors: float, worst: float
) -> bool:
    """Keep a checkpoint if it is the best, or record that training must end; returns whether it was kept.

    Checkpoints are compared by `distance`; `floors`, the Frechet distance, shows an explosion. A value that
    cannot be measured is `worst`; it neither makes a checkpoint the best nor ends the training.
    """
    if max(distance, floors) >= worst:
        return False
    best = _best(folder)
    if best is None or distance < best["distance"]:
        publish_folder(checkpoint, f"{folder}/{BEST}", RECORD)
        write_record(folder, VALIDATED, {"best": {"step": step, "distance": distance, "floors": floors}})
        return True
    if floors > EXPLOSION * best["floors"]:
        exploded = (
            f"the motion's Frechet distance to the footage is {floors:,.0f} floors at step {step:,}, "
            f"{best['floors']:.3g} at step {best['step']:,}: training diverged. The checkpoint of step "
            f"{best['step']:,} is {folder}/{BEST}. Train with a lower learning rate or another seed."
        )
        write_record(folder, VALIDATED, {"best": best, "exploded": exploded})
    return False


def _best(folder: str) -> dict[str, Any] | None:
    """The best so far; a record of version 0.1.0 is ignored, because it has only a Frechet distance."""
    best: dict[str, Any] | None = (read_record(folder, VALIDATED) or {}).get("best")
    return best if best is not None and "floors" in best else None


def explosion_of(folder: str) -> str:
    """The reason why a training in this folder must end; empty if it need not."""
    return str((read_record(folder, VALIDATED) or {}).get("exploded", ""))
