#!/usr/bin/env python3
"""Makes videos with a trained model, of its subject or of another one.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
