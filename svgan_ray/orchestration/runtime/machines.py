"""The machines of the connected cluster: the resources that a job may use, and how it waits for more.

Ray labels machines `ray.io/market-type: spot` or `on-demand` if their node type says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ray

from svgan_ray.config import Machines
from svgan_ray.orchestration.runtime.ray_compat import autoscaler_reports
from svgan_ray.orchestration.runtime.terminal import print_line

__all__ = [
    "Processors",
    "actors_that_fit",
    "await_machine",
    "await_room",
    "grows",
    "label_selector",
    "processors_of",
    "resources_of",
]

_LABEL = "ray.io/market-type"
_UNREMARKABLE_S = 10.0


def label_selector(machines: Machines) -> dict[str, str]:
    """The label selector for all work of a job; empty if the cluster has no such machines and cannot grow."""
    wanted: dict[str, str] = {_LABEL: machines}
    return wanted if machines != "any" and (grows() or _resources(wanted)) else {}


def resources_of(machines: Machines) -> dict[str, float]:
    """CPUs, GPUs and other resources of the machines that a job may use and that are running now."""
    return _resources(label_selector(machines))


class Processors(NamedTuple):
    """The number and unit in which the use of machines is counted."""

    number: float
    unit: str
    """GPU, or core if there are no GPUs."""


def processors_of(machines: Machines) -> Processors:
    """The processors of the machines that a job may use and that are running now."""
    there = resources_of(machines)
    return Processors(there["GPU"], "GPU") if there.get("GPU") else Processors(there.get("CPU", 0), "core")


def _resources(labels: dict[str, str]) -> dict[str, float]:
    total: dict[str, float] = {}
    for node in ray.nodes():
        if node["Alive"] and labels.items() <= node["Labels"].items():
            for name, amount in node["Resources"].items():
                total[name] = total.get(name, 0) + amount
    return total


def grows() -> bool:
    """Whether an autoscaler starts machines for work that waits."""
    return autoscaler_reports(ray.get_runtime_context().gcs_address) > 0


def await_machine(machines: Machines) -> None:
    """Wait until the cluster has a machine that does work: a cluster may begin with a head node alone.

    The resources that a job asks for depend on whether there are GPUs, so it must first see one machine.
    """
    labels = label_selector(machines)
    if machines != "any" and not labels:
        print_line(f"no machine is labelled {_LABEL}={machines}: --machines {machines} changes nothing here")
    if "CPU" in _resources(labels):
        return
    kind = f"{machines} machine" if labels else "machine"
    print_line(f"the cluster has no {kind} that can do work yet: waiting for its first")
    ray.get(_visit({"num_cpus": 1}, labels))


def await_room(resources: dict[str, Any], machines: Machines) -> None:
    """Wait until a machine that a job may use has these resources free."""
    visit = _visit(resources, label_selector(machines))
    if not ray.wait([visit], timeout=_UNREMARKABLE_S)[0]:
        wanted = ", ".join(f"{name}={amount:g}" for name, amount in resources.items())
        print_line(f"no machine has room for work with {wanted}: waiting for one")
    ray.get(visit)


def _visit(resources: dict[str, Any], labels: dict[str, str]) -> ray.ObjectRef[None]:
    """Submit a task that ends as soon as it runs. While it waits, an autoscaler starts a machine for it."""
    return ray.remote(**resources, label_selector=labels, max_retries=-1)(_nothing).remote()


def _nothing() -> None:
    pass


def actors_that_fit(gpus_each: float, machines: Machines) -> int:
    """The number of actors that fit: one for each such share of a GPU, or one for each CPU; at least 1."""
    there = resources_of(machines)
    return max(int(there.get("GPU", 0) / gpus_each if gpus_each else there.get("CPU", 0)), 1)
