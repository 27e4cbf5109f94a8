#!/usr/bin/env python3
"""Searches for the temporal GAN's options; run again, the study goes on.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
