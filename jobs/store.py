#!/usr/bin/env python3
"""Lists, shows and verifies a latent store, collects its garbage, takes snapshots, exports. See `--help`."""

import sys

from svgan_ray.orchestration.store_tool import run_store_tool

if __name__ == "__main__":
    sys.exit(run_store_tool())
