"""Checkpoints that stay: the last ones, which Ray keeps, and the best by validation, which is kept here.

Beside them lies `validated.json`: the best so far, and why the training must end where its motion exploded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from svgan_ray.orchestration.runtime.folders import publish_folder, read_record, write_record
from svgan_ray.temporal.checkpoints import RECORD

__all__ = ["BEST", "EXPLOSION", "explosion_of", "take_validated"]

BEST = "best"
"""Folder of the best checkpoint, among the others."""
EXPLOSION = 100.0
"""So many times the best distance there was is no fluctuation."""
VALIDATED = "validated.json"


def take_validated(
    folder: str, checkpoint: Path, step: int, distance: float, floors: float, worst: float
) -> bool:
    """Keep a validated checkpoint if it is the best, or note that training must end; whether it was kept.

    Checkpoints are compared by `distance`; `floors`, the Frechet distance, shows an explosion. Either is
    `worst` where it cannot be measured, of which nothing follows.
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
    """The best so far; one of version 0.1.0, which is known by its Frechet distance alone, is none."""
    best: dict[str, Any] | None = (read_record(folder, VALIDATED) or {}).get("best")
    return best if best is not None and "floors" in best else None


def explosion_of(folder: str) -> str:
    """Why a training in this folder must end, empty where it need not."""
    return str((read_record(folder, VALIDATED) or {}).get("exploded", ""))
