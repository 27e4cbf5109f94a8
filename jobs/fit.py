#!/usr/bin/env python3
"""Fits a generator and an encoder to the people in footage; run again, it goes on.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))
