#!/usr/bin/env python3
"""Brings what dead or cut-off jobs left in their spool to MLflow. `--help` explains every setting."""

import sys

from svgan_ray.config import ReplayConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.replay import plan_replay, replay_spool

if __name__ == "__main__":
    sys.exit(run_job(ReplayConfig, replay_spool, plan=plan_replay))
