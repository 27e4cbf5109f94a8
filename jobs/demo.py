#!/usr/bin/env python3
"""The whole experiment in one command, on one machine. `--help` explains every setting."""

import sys

from svgan_ray.config import DemoConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.demo.run import demo, dry_run

if __name__ == "__main__":
    sys.exit(run_job(DemoConfig, demo, plan=dry_run))
