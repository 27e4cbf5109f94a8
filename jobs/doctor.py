#!/usr/bin/env python3
"""Checks, line by line, whether this machine or cluster can run the jobs.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
