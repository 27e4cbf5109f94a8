#!/usr/bin/env python3
"""Trains a temporal GAN on one subject's latents; run again, it goes on. `--help` explains every setting."""

import sys

from svgan_ray.config import TrainConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.train import train
from svgan_ray.orchestration.training.plan import dry_run

if __name__ == "__main__":
    sys.exit(run_job(TrainConfig, train, plan=dry_run))
