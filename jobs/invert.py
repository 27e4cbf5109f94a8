#!/usr/bin/env python3
"""Turns footage into latents: it tracks faces, crops, encodes and commits to the store.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["invert", *sys.argv[1:]]))
