#!/usr/bin/env python3
"""Searches for the temporal GAN's options; run again, the study goes on. `--help` explains every setting."""

import sys

from svgan_ray.config import TuneConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.tune import tune_study
from svgan_ray.orchestration.tuning.plan import dry_run

if __name__ == "__main__":
    sys.exit(run_job(TuneConfig, tune_study, plan=dry_run))
