#!/usr/bin/env python3
"""Imports others' weight files as folders that `--weights` takes; docs/weights.md says which.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["import_weights", *sys.argv[1:]]))
