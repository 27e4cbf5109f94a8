#!/usr/bin/env python3
"""Brings what dead or cut-off jobs left in their spool to MLflow.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["replay", *sys.argv[1:]]))
