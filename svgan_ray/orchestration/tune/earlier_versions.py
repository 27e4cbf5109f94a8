"""Lets this version go on with studies that version 0.1.0 began.

Ray Tune stores a study's search and callbacks as pickles (`tuner.pkl`, `searcher-state-*.pkl`). They name
classes and functions by module, and some modules have moved since.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["find_moved_modules"]

_HERE = "svgan_ray.orchestration.tune"
_MOVED = {
    "svgan_ray.orchestration.tuning.plan": f"{_HERE}.plan",
    "svgan_ray.orchestration.tuning.progress": f"{_HERE}.progress",
    "svgan_ray.orchestration.tuning.search": f"{_HERE}.search",
}
_TRIAL_FOLDER = "_trial_folder"
"""The only function that a pickle names in the package `tune`, which was a module then."""


def find_moved_modules() -> None:
    """Make the modules that a study of version 0.1.0 names importable under their old names."""
    sys.modules.setdefault("svgan_ray.orchestration.tuning", ModuleType("svgan_ray.orchestration.tuning"))
    for old, new in _MOVED.items():
        sys.modules.setdefault(old, importlib.import_module(new))
    job = importlib.import_module(f"{_HERE}.job")
    setattr(sys.modules[_HERE], _TRIAL_FOLDER, getattr(job, _TRIAL_FOLDER))
