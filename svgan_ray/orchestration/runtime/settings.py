"""Logs a run's settings: the ones that differ from the defaults as parameters, all of them as a file."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from svgan_ray.config import flatten
from svgan_ray.runs import Run
from svgan_ray.temporal.recipes import RECIPES

__all__ = ["SETTINGS", "chosen", "log_settings"]

SETTINGS = "settings.json"


def log_settings(run: Run, config: Any) -> None:
    """Log the settings. MLflow shows all parameters above each picture, so only a few are parameters."""
    run.log_params(chosen(config))
    run.log_file(SETTINGS, (json.dumps(flatten(config), indent=2) + "\n").encode())


def chosen(config: Any) -> dict[str, object]:
    """The settings of a job that differ from its defaults, and the recipe that sets the others."""
    defaults = type(config)()
    recipe = {"recipe": config.recipe} if hasattr(config, "recipe") else {}
    if recipe:
        defaults = dataclasses.replace(defaults, temporal=RECIPES[config.recipe]())
    usual = flatten(defaults)
    return recipe | {name: value for name, value in flatten(config).items() if value != usual[name]}
