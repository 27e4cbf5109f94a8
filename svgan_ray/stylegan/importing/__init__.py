"""Importing of users' weight files: StyleGAN2 generators, their encoders, and networks that measure."""

from __future__ import annotations

from svgan_ray.stylegan.importing.importer import ImportReport, import_weights

__all__ = ["ImportReport", "import_weights"]
