#!/usr/bin/env python3
"""Lists, shows and verifies a latent store, collects its garbage, takes snapshots, exports.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["store", *sys.argv[1:]]))
