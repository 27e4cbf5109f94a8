"""The start of a job: a connected cluster, machines that can do the work, a warning if MLflow is silent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from svgan_ray.config import Machines
from svgan_ray.errors import ClusterError, MlflowError
from svgan_ray.orchestration.runtime.checks import start_checks
from svgan_ray.orchestration.runtime.cluster import connect, vanishes
from svgan_ray.orchestration.runtime.cluster_checks import on_all_machines
from svgan_ray.orchestration.runtime.machines import await_machine
from svgan_ray.orchestration.runtime.terminal import print_warning
from svgan_ray.runs import default_uri
from svgan_ray.runs.client import database_path
from svgan_ray.runs.probe import probe_mlflow

__all__ = ["started"]

_MLFLOW_TIMEOUT_S = 5.0
_STOPS = ("disk", "fetching")
"""The checks whose failure stops a job. Other package versions may work, and Ray replaces a silent
machine."""


@contextmanager
def started(store: str, networks: Sequence[str], machines: Machines) -> Iterator[None]:
    """Connect to Ray for the block as `connect` does, after every machine (at least one) passed its checks.

    `networks` are hashes of weights in the store that the machines will use; the checks fetch them. Raises
    ClusterError, which names each machine that is not fit and what helps. Problems that do not stop a job are
    printed.
    """
    asking = threading.Thread(target=_ask_mlflow, daemon=True)
    asking.start()
    with connect():
        await_machine(machines)
        bad = [check for check in on_all_machines(start_checks, store, networks) if check.state == "failed"]
        lines = {check: f"{check.machine or 'this machine'}: {check.found}; {check.remedy}" for check in bad}
        if stops := [line for check, line in lines.items() if check.name in _STOPS]:
            raise ClusterError("\n".join(stops))
        for line in lines.values():
            print_warning(line)
        asking.join(_MLFLOW_TIMEOUT_S)
        yield


def _ask_mlflow() -> None:
    uri = default_uri()
    database = database_path(uri)
    if database is not None and vanishes(database):
        print_warning(f"MLflow: {database} is removed with this job; set MLFLOW_TRACKING_URI to a server")
        return
    try:
        probe_mlflow(uri)
    except MlflowError as error:
        fate = "vanish with this job's folder" if vanishes(Path.cwd()) else "wait in mlspool"
        print_warning(f"MLflow: {error}; events {fate} until this is mended")
