"""A cluster on this machine that grows: Ray's own autoscaler starts further nodes, as processes here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from ray.util import get_node_ip_address

from svgan_ray.orchestration.runtime.machines import grows
from tests.free_port import free_port
from tests.orchestration.faulty_workers import wait_for

NodeTypes = Mapping[str, Mapping[str, Any]]
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}


@contextmanager
def autoscaled(node_types: NodeTypes) -> Iterator[None]:
    """Ray for this process: a head alone, and the nodes to come by `resources`, `labels`, `max_workers`.

    With a token, as all of cluster/ has it. Ray keeps it in a process that once started a local cluster, and
    a head without one could not ask such a process whether its actors are still wanted: it ends them.
    """
    from ray._private.authentication.authentication_token_setup import (  # only where a cluster is started
        enable_token_auth_by_default,
        ensure_token_if_auth_enabled,
    )

    enable_token_auth_by_default()
    ensure_token_if_auth_enabled()
    address = f"{get_node_ip_address()}:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        config, log = Path(folder, "cluster.json"), Path(folder, "head.log")
        config.write_text(json.dumps(_config(node_types, address)))
        flags = [f"--port={address.rpartition(':')[2]}", f"--dashboard-port={free_port()}"]
        flags += [f"--temp-dir={folder}", f"--autoscaling-config={config}", "--num-cpus=0", "--num-gpus=0"]
        start = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", *flags]
        with log.open("wb") as output:
            head = subprocess.Popen(start, env=os.environ | ENVIRONMENT, stdout=output, stderr=output)
        try:
            wait_for(lambda: "Ray runtime started" in log.read_text(), "the head")
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
            wait_for(grows, "the autoscaler")
            yield
        finally:
            ray.shutdown()
            head.terminate()
            head.wait()
            _kill_all(folder)


def _config(node_types: NodeTypes, address: str) -> dict[str, Any]:
    provider = f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"
    head: dict[str, Any] = {"resources": {"CPU": 0}, "max_workers": 0, "node_config": {}}
    return {
        "cluster_name": "here",
        "max_workers": 8,
        "idle_timeout_minutes": 60,  # none goes during a test, however slow
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": provider,
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "available_node_types": {FAKE_HEAD_NODE_TYPE: head}
        | {name: _node(t) for name, t in node_types.items()},
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        **{f"{name}_commands": [] for name in COMMANDS},
    }


def _node(node_type: Mapping[str, Any]) -> dict[str, Any]:
    resources = {"object_store_memory": 100_000_000, **node_type["resources"]}
    return {"min_workers": 0, "node_config": {}, **node_type, "resources": resources}


def _kill_all(folder: str) -> None:
    """What belongs to the cluster: nodes that the autoscaler started outlive it."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if folder.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
