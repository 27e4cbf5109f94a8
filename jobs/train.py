#!/usr/bin/env python3
"""Trains a temporal GAN on one subject's latents; run again, it goes on.

`--help` explains every flag.
"""

import sys

from svgan_ray.orchestration.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
