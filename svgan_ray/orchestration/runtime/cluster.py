"""The cluster of a job: the Ray cluster that RAY_ADDRESS names, or a local one that this process starts."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError, RayError

from svgan_ray.errors import ClusterError, ConfigError
from svgan_ray.orchestration.runtime.interrupts import take_sigterm_as_interrupt
from svgan_ray.runs.registry import REGISTRY

__all__ = ["connect", "durable", "vanishes"]

_LISTENS_TIMEOUT_S = 10
_LOOPBACK = ("127.0.0.1", "localhost")
_UPLOADED = "/runtime_resources/working_dir_files/"
"""Part of every path at which Ray unpacks the working directory of a submitted job."""


@contextmanager
def connect() -> Iterator[None]:
    """Connect to Ray for the block: an existing connection, else RAY_ADDRESS, else a new local cluster.

    A job that is submitted to a cluster finds RAY_ADDRESS set. A cluster that happens to run on this machine
    is not used. Raises ConfigError if RAY_ADDRESS is an address for submission, ClusterError if the cluster
    is gone, refuses the token or runs other versions.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("http"):
        raise ConfigError(
            f"RAY_ADDRESS={address} is where jobs are submitted: run `ray job submit -- python ...`, "
            "or unset it to run on this machine alone"
        )
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        _require_listening(host, int(port))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    is_own = address == "local"
    if is_own:  # idle workers would keep the memory that they used, which a laptop cannot spare
        os.environ.setdefault("RAY_num_workers_soft_limit", "0")
    # Ray writes what workers print to its log folder; their failures come back as errors and records.
    dashboard = False if is_own else None
    try:
        ray.init(
            address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=dashboard
        )
    except (RayError, RuntimeError, ConnectionError) as error:
        raise ClusterError(_refusal(address, error)) from error
    take_sigterm_as_interrupt()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _require_listening(host: str, port: int) -> None:
    """Raise ClusterError in cases in which Ray would wait silently for minutes or for ever."""
    if not _listens(host, port):
        raise ClusterError(f"{host}:{port}: no cluster answers there; start it, or mend RAY_ADDRESS")
    # Ray replaces a loopback address by this machine's external address.
    if host in _LOOPBACK and not _listens(ray.util.get_node_ip_address(), port):
        raise ClusterError(
            f"{host}:{port}: the cluster listens on loopback alone; use `ray job submit`, "
            "or set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before Python starts"
        )


def _refusal(address: str, error: Exception) -> str:
    """A one-line summary of Ray's error message, and what to do about it."""
    text = str(error)
    first = text.strip().partition("\n")[0]
    if address == "local":
        return f"Ray does not start on this machine ({first}); /tmp/ray/session_latest/logs/ may say why"
    if isinstance(error, AuthenticationError | ConnectionError):
        # The port answers: Ray reports a refused token as a failed connection, with the reason only in its
        # log.
        return (
            f"{address}: the cluster does not let us in; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "~/.ray/auth_token to the cluster's token"
        )
    versions = re.findall(r"(Ray|Python): (\S+)", text)
    if "Version mismatch" in text and len(versions) == 4:
        theirs, ours = (" on ".join(" ".join(pair) for pair in half) for half in (versions[:2], versions[2:]))
        return f"{address}: the cluster runs {theirs}, this is {ours}; install the cluster's, or upgrade it"
    return f"{address}: the cluster cannot be joined ({first}); `python jobs/doctor.py` there may say why"


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host.removeprefix("ray://"), port), timeout=_LISTENS_TIMEOUT_S):
            return True
    except OSError:
        return False


def durable(uri: str, flag: str) -> str:
    """A place that outlives the job and is valid on every worker: URIs unchanged, paths made absolute.

    Raises ConfigError for a relative path if the job runs in the copy of the working directory that Ray makes
    for a submitted job.
    """
    if "://" in uri or uri.startswith(REGISTRY) or Path(uri).is_absolute():
        return uri
    if vanishes(Path.cwd()):
        raise ConfigError(
            f"{flag} {uri}: this job runs in Ray's copy of the working directory, which is removed with it; "
            "give an absolute path that all machines share, or s3://bucket/prefix"
        )
    return str(Path(uri).absolute())


def vanishes(place: Path) -> bool:
    """Whether a place is in the copy of the working directory that Ray makes for a submitted job."""
    return _UPLOADED in f"{place}/"
