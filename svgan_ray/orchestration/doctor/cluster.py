"""The Ray cluster: can it be reached with our token, is it of our version, and how are its machines."""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import replace
from urllib.error import URLError

import ray
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobSubmissionClient
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svgan_ray.config import DoctorConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.cluster import connect
from svgan_ray.orchestration.doctor.checks import Check, failed, machine_checks, note, ok

__all__ = ["check_submission", "cluster_checks"]

_TOKEN = "RAY_AUTH_MODE=token and the cluster's token, in RAY_AUTH_TOKEN or ~/.ray/auth_token"
_MACHINE_TIMEOUT_S = 120


def cluster_checks(config: DoctorConfig) -> list[Check]:
    """The cluster's own checks and those of each of its machines."""
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ""
    if address.startswith("http"):  # we stand outside: the cluster is asked for its name only
        return [check_submission(address), *machine_checks(config)]
    try:
        with connect():
            return [_check_ray(address), *_of_all_machines(config)]
    except (ConfigError, RayError, RuntimeError, ConnectionError) as error:
        return [
            failed("ray", str(error).splitlines()[0], "see the end of /tmp/ray/session_latest/logs/"),
            *machine_checks(config),
        ]


def check_submission(address: str) -> Check:
    """Where jobs are submitted: it answers, takes our token, refuses others and runs our version of Ray."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=10) as answer:
            theirs = json.load(answer)["ray_version"]
        JobSubmissionClient(address).list_jobs()
    except AuthenticationError:
        return failed("ray", f"{address} refuses this token", _TOKEN)
    except (URLError, ConnectionError, ValueError, KeyError) as error:
        return failed(
            "ray",
            f"{address} does not answer as Ray does ({error})",
            "make cluster-up, or mend RAY_API_SERVER_ADDRESS",
        )
    if theirs != ray.__version__:
        return failed(
            "ray",
            f"{address} runs Ray {theirs}, this is {ray.__version__}",
            f"pip install ray=={theirs}, or upgrade the cluster",
        )
    if _takes_anybody(address):
        return failed(
            "ray",
            f"{address} asks for no token: whoever reaches it runs code there",
            "start it with RAY_AUTH_MODE=token",
        )
    return ok(
        "ray", f"{address}: Ray {theirs}, token accepted; for its machines: ray job submit jobs/doctor.py"
    )


def _takes_anybody(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/jobs/", timeout=10):
            return True
    except URLError:
        return False


def _check_ray(address: str) -> Check:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    resources = ray.cluster_resources()
    size = f"{len(nodes)} machines, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    if not address:
        return ok("ray", f"{ray.__version__} starts on this machine: {size}")
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return note(
            "ray",
            f"{address}: {size}; RAY_AUTH_MODE is not token",
            "start every node with RAY_AUTH_MODE=token",
        )
    return ok("ray", f"{address}: Ray {ray.__version__}, {size}, token accepted")


def _of_all_machines(config: DoctorConfig) -> list[Check]:
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    examine = ray.remote(num_cpus=0, max_retries=0)(machine_checks)
    running = {
        name if list(names.values()).count(name) == 1 else f"{name}/{node[:8]}": examine.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(config)
        for node, name in names.items()
    }
    found: list[Check] = []
    for machine, result in running.items():
        try:
            checks = ray.get(result, timeout=_MACHINE_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            checks = [
                failed(
                    "machine",
                    f"no answer: {str(error).splitlines()[0]}",
                    "look at its log, or let Ray replace it",
                )
            ]
        found += [replace(check, machine=machine) for check in checks]
    return found
