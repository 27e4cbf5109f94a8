#!/usr/bin/env python3
"""Footage to latents: track faces, crop, encode, commit to the store. `--help` explains every setting."""

import sys

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.inversion.planning import dry_run
from svgan_ray.orchestration.invert import invert

if __name__ == "__main__":
    sys.exit(run_job(InvertConfig, invert, plan=dry_run))
