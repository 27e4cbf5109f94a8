"""What svgan-ray needs of Ray and Ray offers in no public way; `tests/test_compat.py` tells when it moved."""

from __future__ import annotations

__all__ = ["autoscaler_reports"]


def autoscaler_reports(gcs_address: str) -> int:
    """How often the autoscaler of a cluster has told of its state; 0 where a cluster has none.

    `ray status` prints the same report as text; the public `ray.autoscaler.sdk` can only ask for resources.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status

    return int(get_cluster_status(gcs_address).stats.autoscaler_version or 0)
