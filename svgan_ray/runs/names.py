"""Names that MLflow accepts."""

from __future__ import annotations

import re

__all__ = ["image_name", "metric_name"]


def metric_name(name: str) -> str:
    """`name` with what MLflow refuses in it replaced."""
    return re.sub(r"[^\w\-.: /]", "_", name, flags=re.ASCII)[:250]


def image_name(key: str, step: int, time_ms: int, unique: str) -> str:
    """File name without suffix from which MLflow's UI reads key, step and time."""
    safe_key = re.sub(r"[^\w\-. /]", "_", key, flags=re.ASCII).replace("/", "~")
    return f"{safe_key}+step+{step}+timestamp+{time_ms}+{unique}"
