#!/usr/bin/env python3
"""Runs the whole method in one command, on one machine.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
