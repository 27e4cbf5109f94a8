"""Where jobs run: a Ray cluster that is named, or one of this process's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from svgan_ray.errors import ConfigError
from svgan_ray.tracking.registry import REGISTRY

__all__ = ["connect", "durable"]

_UPLOADED = "/runtime_resources/working_dir_files/"
"""Part of every path at which Ray unpacks the working directory of a submitted job."""


@contextmanager
def connect() -> Iterator[None]:
    """Ray for the time of a job: what is connected already, else RAY_ADDRESS, else a local cluster.

    A job submitted to a cluster finds RAY_ADDRESS set. A cluster that merely happens to run here is not
    taken. Raises ConfigError where RAY_ADDRESS is an address for submission.
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What workers print lies in Ray's log folder; what goes wrong in them comes back as errors and records.
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def durable(uri: str, flag: str) -> str:
    """A place that outlives the job and that every worker understands: a URI as it is, a path made absolute.

    Raises ConfigError for a relative path in the copy of the working directory that Ray makes for a
    submitted job.
    """
    if "://" in uri or uri.startswith(REGISTRY) or Path(uri).is_absolute():
        return uri
    if _UPLOADED in f"{Path.cwd()}/":
        raise ConfigError(
            f"{flag} {uri}: this job runs in Ray's copy of the working directory, which is removed with it; "
            "give an absolute path that all machines share, or s3://bucket/prefix"
        )
    return str(Path(uri).absolute())
