#!/usr/bin/env python3
"""Makes a video with a trained model, of its subject or of another one. `--help` explains every setting."""

import sys

from svgan_ray.config import SampleConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.sample import plan_sample, sample

if __name__ == "__main__":
    sys.exit(run_job(SampleConfig, sample, plan=plan_sample))
