#!/usr/bin/env python3
"""Measures how a model's motion compares with footage. `--help` explains every setting."""

import sys

from svgan_ray.config import EvaluateConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.evaluate import evaluate, plan_evaluation

if __name__ == "__main__":
    sys.exit(run_job(EvaluateConfig, evaluate, plan=plan_evaluation))
