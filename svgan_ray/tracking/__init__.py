"""Experiment tracking: a spool on disk that MLflow is filled from in the background.

The only folder that imports mlflow, and it does so lazily: importing svgan_ray.tracking stays cheap.
"""

from svgan_ray.tracking.drain import ReplayReport, Waiting, replay, waiting
from svgan_ray.tracking.tracker import Tracker, default_uri, open_tracker

__all__ = ["ReplayReport", "Tracker", "Waiting", "default_uri", "open_tracker", "replay", "waiting"]
