"""The parts of Ray that svgan-ray needs and that are not public; `tests/test_compat.py` checks them."""

from __future__ import annotations

from operator import attrgetter

__all__ = ["autoscaler_reports", "hand_settings_to_actors_by_value"]

_HANDED_ON = {"_map_transformer_ref": "_map_transformer", "_data_context_ref": "data_context"}
"""What Ray Data hands to the actors of a pool: the attributes with the references and with the values."""


def autoscaler_reports(gcs_address: str) -> int:
    """How often a cluster's autoscaler has reported its state; 0 if the cluster has no autoscaler.

    `ray status` prints the same report as text; the public `ray.autoscaler.sdk` can only ask for resources.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status

    return int(get_cluster_status(gcs_address).stats.autoscaler_version or 0)


def hand_settings_to_actors_by_value() -> None:
    """Let Ray Data hand its actors their settings, some kilobytes, themselves rather than by reference.

    An actor whose arguments lie in the object store cannot be restarted if they are lost with a machine; Ray
    prints an error line about that at each start (ray-project/ray, issue 53727).
    """
    from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

    for reference, value in _HANDED_ON.items():
        if hasattr(ActorPoolMapOperator, reference):
            setattr(ActorPoolMapOperator, reference, property(attrgetter(value)))
