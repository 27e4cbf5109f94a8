"""Experiment tracking: a spool on disk that MLflow is filled from in the background.

The only folder that imports mlflow, and it does so lazily: importing svgan_ray.tracking stays cheap.
"""

from svgan_ray.tracking.drain import ReplayReport, replay
from svgan_ray.tracking.tracker import Tracker, default_uri, open_tracker

__all__ = ["ReplayReport", "Tracker", "default_uri", "open_tracker", "replay"]
