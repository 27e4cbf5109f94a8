#!/usr/bin/env python3
"""Whether this machine or cluster can run the jobs, line by line. `--help` explains every setting."""

import sys

from svgan_ray.config import DoctorConfig
from svgan_ray.orchestration.command_line import run_job
from svgan_ray.orchestration.doctor.run import doctor

if __name__ == "__main__":
    sys.exit(run_job(DoctorConfig, doctor))
