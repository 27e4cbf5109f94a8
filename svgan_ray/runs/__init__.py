"""Runs of MLflow: what a job tells goes to a spool on disk, which fills MLflow in the background.

The only folder that imports mlflow, and it does so lazily: importing svgan_ray.runs stays cheap.
"""

from svgan_ray.runs.drain import ReplayReport, Waiting, replay, waiting
from svgan_ray.runs.local_run import default_uri, open_run
from svgan_ray.runs.run import Dataset, Run

__all__ = ["Dataset", "ReplayReport", "Run", "Waiting", "default_uri", "open_run", "replay", "waiting"]
