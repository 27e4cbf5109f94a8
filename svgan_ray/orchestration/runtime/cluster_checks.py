"""Checks of the Ray cluster: it accepts our token, runs our version, and its machines are fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ray
import requests
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svgan_ray.config import DoctorConfig
from svgan_ray.errors import ClusterError, ConfigError, SvganRayError
from svgan_ray.orchestration.runtime.checks import (
    Check,
    caught,
    check_weights,
    failed,
    machine_checks,
    note,
    ok,
)
from svgan_ray.orchestration.runtime.cluster import connect
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.store import open_store
from svgan_ray.store.weights import has_weights
from svgan_ray.stylegan.weights import weights_hash

__all__ = ["check_submission", "cluster_checks", "on_all_machines"]

_TOKEN = "RAY_AUTH_MODE=token and the cluster's token, in RAY_AUTH_TOKEN or ~/.ray/auth_token"
_OPEN = "asks for no token: everybody who reaches it can run code there"
_CLOSE = "start every node with RAY_AUTH_MODE=token (docs/cluster.md)"
_MACHINE_TIMEOUT_S = 120


def cluster_checks(config: DoctorConfig) -> list[Check]:
    """The cluster's own checks and those of each of its machines."""
    weights = caught("weights", lambda: check_weights(config.weights))
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ""
    if address.startswith("http"):  # this process is outside the cluster, so it checks submission only
        return [check_submission(address), weights, *machine_checks(config)]
    try:
        with connect():
            everywhere = on_all_machines(machine_checks, config, _published(config))
            return [_check_ray(address), weights, *everywhere]
    except (ClusterError, ConfigError) as error:
        return [failed("ray", str(error), ""), weights, *machine_checks(config)]


def _published(config: DoctorConfig) -> tuple[str, ...]:
    """Hashes of the networks of `--weights` that the store holds, so that every machine can fetch them."""
    try:
        store = open_store(config.store)
        hashes = [weights_hash(folder) for folder in folders_of(config.weights)]
        return tuple(sha256 for sha256 in hashes if has_weights(store, sha256))
    except SvganRayError:  # other checks report the reason
        return ()


def check_submission(address: str) -> Check:
    """Check the address for submission: it answers, requires a token, accepts ours, runs our Ray version."""
    question = f"{address.rstrip('/')}/api/version"
    try:
        if requests.get(question, timeout=10).ok:
            return failed("ray", f"{address} {_OPEN}", _CLOSE)
        answer = requests.get(question, headers={"Authorization": f"Bearer {_token()}"}, timeout=10)
        if answer.status_code in (401, 403):
            return failed("ray", f"{address} refuses this token", _TOKEN)
        theirs = answer.json()["ray_version"]
    except (requests.RequestException, ValueError, KeyError) as error:
        gone = f"{address} does not answer as Ray does ({type(error).__name__})"
        return failed("ray", gone, "make cluster-up, or mend RAY_API_SERVER_ADDRESS")
    if theirs != ray.__version__:
        skew = f"{address} runs Ray {theirs}, this is {ray.__version__}"
        return failed("ray", skew, f"pip install ray=={theirs}, or upgrade the cluster")
    return ok("ray", f"{address}: Ray {theirs}, token accepted; its machines: ray job submit jobs/doctor.py")


def _token() -> str:
    """The token that Ray's own clients would send, or an empty string if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text().strip() if path.is_file() else ""


def _check_ray(address: str) -> Check:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    resources = ray.cluster_resources()
    size = f"{len(nodes)} machines, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    if not address:
        return ok("ray", f"{ray.__version__} starts on this machine: {size}")
    if _is_open():
        return failed("ray", f"{address}: {size}; it {_OPEN}", _CLOSE)
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return note(
            "ray",
            f"{address}: {size}; RAY_AUTH_MODE is not token",
            "start every node with RAY_AUTH_MODE=token",
        )
    return ok("ray", f"{address}: Ray {ray.__version__}, {size}, token accepted")


def _is_open() -> bool:
    """Whether the connected cluster's dashboard, if it can be reached, answers requests without a token.

    A cluster without authentication accepts a client that has a token, but then loses that job's actors.
    """
    connected = ray.init(ignore_reinit_error=True, logging_level=logging.ERROR)
    try:
        return requests.get(f"http://{connected.dashboard_url}/api/version", timeout=10).ok
    except requests.RequestException:
        return False


def on_all_machines(examine: Callable[..., list[Check]], *arguments: object) -> list[Check]:
    """Run the checks on every machine of the connected cluster: in a task each, on this one directly."""
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    if list(names) == [ray.get_runtime_context().get_node_id()]:
        return examine(*arguments)
    task = ray.remote(num_cpus=0, max_retries=0)(examine)
    running = {
        name if list(names.values()).count(name) == 1 else f"{name}/{node[:8]}": task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(*arguments)
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
