"""The demo's stages: each calls the function that the job of its name calls, and says in a line what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from svgan_ray.config import DemoConfig, flatten
from svgan_ray.demo.footage import factors_path
from svgan_ray.errors import InputError
from svgan_ray.orchestration.demo.page import PAGE, STRIP, write_demo_page
from svgan_ray.orchestration.demo.plan import DemoPlan
from svgan_ray.orchestration.demo.stages import Stage
from svgan_ray.orchestration.evaluate import evaluate
from svgan_ray.orchestration.inversion.demo_footage import demo_footage
from svgan_ray.orchestration.invert import invert
from svgan_ray.orchestration.sample import sample
from svgan_ray.orchestration.train import train
from svgan_ray.orchestration.tune import tune
from svgan_ray.store.keys import content_id
from svgan_ray.video.landmarks import sidecar_path

__all__ = ["stages_of"]
