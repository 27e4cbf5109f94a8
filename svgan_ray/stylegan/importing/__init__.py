"""The import of users' weight files: StyleGAN2 generators, their encoders, and networks for metrics."""

from __future__ import annotations

from svgan_ray.stylegan.importing.importer import ImportReport, import_weights

__all__ = ["ImportReport", "import_weights"]
