"""Runs of MLflow: a job's events go to a spool on disk, and a background thread sends them to MLflow.

This is the only folder that imports mlflow, and it does so lazily, so that importing svgan_ray.runs stays
cheap.
"""

from svgan_ray.runs.drain import ReplayReport, Waiting, replay, waiting
from svgan_ray.runs.local_run import default_uri, open_run
from svgan_ray.runs.run import Dataset, Run

__all__ = ["Dataset", "ReplayReport", "Run", "Waiting", "default_uri", "open_run", "replay", "waiting"]
