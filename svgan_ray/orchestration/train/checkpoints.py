"""Checkpoints that stay: the last ones, which Ray keeps, and the best by validation, which is kept here.

Beside them lies `validated.json`: the best so far, and why the training must end where its motion exploded.
"""

from __future__ import annotations

from pathlib import Path

from svgan_ray.orchestration.runtime.folders import publish_folder, read_record, write_record
from svgan_ray.temporal.checkpoints import RECORD

__all__ = ["BEST", "EXPLOSION", "explosion_of", "take_validated"]

BEST = "best"
"""Folder of the best checkpoint, among the others."""
EXPLOSION = 100.0
"""So many times the best distance there was is no fluctuation."""
VALIDATED = "validated.json"


def take_validated(folder: str, checkpoint: Path, step: int, distance: float, worst: float) -> bool:
    """Keep a validated checkpoint if it is the best, or note that training must end; whether it was kept.

    `worst` is the distance of what cannot be measured, of which nothing follows.
    """
    best = (read_record(folder, VALIDATED) or {}).get("best")
    if distance >= worst:
        return False
    if best is None or distance < best["distance"]:
        publish_folder(checkpoint, f"{folder}/{BEST}", RECORD)
        write_record(folder, VALIDATED, {"best": {"step": step, "distance": distance}})
        return True
    if distance > EXPLOSION * best["distance"]:
        exploded = (
            f"the motion's distance to the footage is {distance:,.0f} floors at step {step:,}, "
            f"{best['distance']:.3g} at step {best['step']:,}: training diverged. The checkpoint of step "
            f"{best['step']:,} is {folder}/{BEST}. Train with a lower learning rate or another seed."
        )
        write_record(folder, VALIDATED, {"best": best, "exploded": exploded})
    return False


def explosion_of(folder: str) -> str:
    """Why a training in this folder must end, empty where it need not."""
    return str((read_record(folder, VALIDATED) or {}).get("exploded", ""))
