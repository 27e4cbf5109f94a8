"""All jobs behind one command, `svgan-ray JOB FLAGS`, which is the same as `python jobs/JOB.py FLAGS`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from svgan_ray.experiment_file import SECTIONS
from svgan_ray.orchestration.runtime.command_line import run_job

__all__ = ["JOBS", "main"]

JOBS = {
    "demo": "demo.job",
    "invert": "invert.job",
    "fit": "fit.job",
    "train": "train.job",
    "tune": "tune.job",
    "sample": "sample.job",
    "evaluate": "evaluate.job",
    "store": "store_tool.job",
    "import_weights": "import_weights",
    "replay": "replay",
    "doctor": "doctor",
}
"""The module of each job, with its `run(config)` and `plan(config)`; a tool without a config has
`main(flags)`."""

_HELP = """Usage: svgan-ray JOB [FLAGS]

These are the jobs, in the order of use; `svgan-ray JOB --help` explains every flag:

  demo            runs the whole method once on this machine and ends with a page
  invert          turns footage into latents in a store
  fit             fits a generator and an encoder to the people in footage
  train           trains a motion model on one subject's latents
  tune            searches for the best options of a training
  sample          makes videos with a motion model
  evaluate        measures how a model's motion compares with footage
  store           lists, shows, verifies and exports a latent store
  import_weights  imports weight files of other projects
  replay          sends events to MLflow that jobs could not deliver
  doctor          checks whether this machine or cluster can run the jobs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job that the first argument names; returns its exit code, or 2 if there is no such job."""
    name, *flags = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    name = name.replace("-", "_") if not name.startswith("-") else name
    if name in ("-h", "--help"):
        print(_HELP)
        return 0
    if name not in JOBS:
        print(f"error: there is no job {name}; the jobs are {', '.join(JOBS)}", file=sys.stderr)
        return 2
    job = importlib.import_module(f"svgan_ray.orchestration.{JOBS[name]}")
    if name in SECTIONS:
        return run_job(SECTIONS[name], job.run, plan=getattr(job, "plan", None), argv=flags)
    code: int = job.main(flags)
    return code
