"""The parts of Ray that svgan-ray needs and that are not public; `tests/test_compat.py` checks them."""

from __future__ import annotations

__all__ = ["autoscaler_reports"]


def autoscaler_reports(gcs_address: str) -> int:
    """How often a cluster's autoscaler has reported its state; 0 if the cluster has no autoscaler.

    `ray status` prints the same report as text; the public `ray.autoscaler.sdk` can only ask for resources.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status

    return int(get_cluster_status(gcs_address).stats.autoscaler_version or 0)
