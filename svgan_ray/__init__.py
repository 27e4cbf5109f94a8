"""StyleVideoGAN experiments at scale: footage in, a generative model of a subject's motion out."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
