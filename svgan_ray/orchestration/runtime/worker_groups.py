"""Groups of workers on Ray Train: their size, their machines, and the upload of their checkpoints."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import ray.train
import torch
from pyarrow.fs import FileSystem, LocalFileSystem
from ray.train import Checkpoint, WorkerGroupError
from torch import Tensor

from svgan_ray.config import Machines
from svgan_ray.errors import ConfigError, StoreError, SvganRayError
from svgan_ray.orchestration.runtime.folders import filesystem
from svgan_ray.orchestration.runtime.machines import grows, resources_of
from svgan_ray.orchestration.runtime.ray_train_compat import TorchTrainer, silence_reports
from svgan_ray.orchestration.runtime.terminal import print_line
from svgan_ray.temporal.workers import ALONE, Workers

__all__ = ["Uploader", "make_process_deterministic", "run_trainer", "use_gpu", "worker_group"]

RETRY_WAITS_S = (1.0, 4.0, 15.0, 60.0, 120.0)
"""Waits before each retry of an upload; their sum is longer than the restart of a store."""
_COPIED_BYTES = 8 * 2**20
"""The part of a checkpoint that is in memory while it is copied."""
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}
"""Errors for which a retry does not help."""


class _Workers(Protocol):
    """The fields of a job's config that describe its workers."""

    @property
    def workers(self) -> int: ...

    @property
    def cpus_per_worker(self) -> int: ...

    @property
    def gpu(self) -> bool | None: ...

    @property
    def machines(self) -> Machines: ...


def use_gpu(config: _Workers) -> bool:
    """Whether to train on GPUs; a cluster that can grow may still lack them. Raises ConfigError."""
    there, more_come = resources_of(config.machines), grows()
    gpus = there.get("GPU", 0)
    gpu = gpus >= config.workers or (gpus > 0 and more_come) if config.gpu is None else config.gpu
    kind, needed = ("GPU", config.workers) if gpu else ("CPU", config.workers * config.cpus_per_worker)
    if there.get(kind, 0) < needed:
        lack = f"{config.workers} workers need {needed} {kind}s, the cluster has {there.get(kind, 0):g}"
        if not more_come:
            raise ConfigError(f"{'--gpu' if gpu else '--workers'}: {lack}")
        print_line(f"{lack}: waiting for more machines (`ray status` tells why if none comes)")
    return gpu


def run_trainer(trainer: TorchTrainer) -> object:
    """Run the trainer and return Ray's result; if workers failed with an error of ours, raise that error."""
    try:
        with _interrupts_given_back():
            return trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause = getattr(failure, "_base_exc", failure)  # Ray wraps the errors that it sends here
            if isinstance(cause, SvganRayError):
                raise cause from error
        raise


@contextmanager
def _interrupts_given_back() -> Iterator[None]:
    """Restore the handler of Ctrl+C, which Ray replaces while it trains and does not restore itself."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def worker_group() -> Workers:
    """This worker's place in its group; tensors may be on any device."""
    silence_reports()
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return ALONE

    def all_reduce(value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    return Workers(context.get_world_rank(), context.get_world_size(), all_reduce)


def make_process_deterministic() -> None:
    """Make a GPU's libraries compute bit-equal results, in this whole process and for as long as it lives.

    They may choose methods whose order of summation varies unless this is set before their first use. It is
    safe for the whole process, because a training's worker has its process to itself.
    """
    torch.backends.cudnn.deterministic = True
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Uploader:
    """The function that Ray calls to upload a checkpoint; it retries for minutes if the upload fails."""

    def __init__(self, folder: str, waits_s: tuple[float, ...] = RETRY_WAITS_S) -> None:
        self.folder, self.waits_s = folder, waits_s

    def __call__(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        storage, path = filesystem(f"{self.folder}/{name}")
        storage = storage or LocalFileSystem()
        for wait_s in (*self.waits_s, None):
            try:
                _copy(Path(checkpoint.path), storage, path)
                break
            except (OSError, StoreError) as error:
                if wait_s is None or getattr(error, "errno", None) in _HOPELESS:
                    raise StoreError(
                        f"{self.folder}: checkpoint {name} cannot be written: {error}; mend that (free "
                        "space, say) and run the same command again: it goes on from the last checkpoint"
                    ) from error
                logging.getLogger(__name__).warning("%s: not uploaded yet: %s", path, error)
                time.sleep(wait_s)
        return Checkpoint(path, storage)


def _copy(folder: Path, storage: FileSystem, path: str) -> None:
    """Copy a local folder; `pyarrow.fs.copy_files` would not tell of a file that could not be closed.

    On S3 a file is written when it is closed.
    """
    storage.create_dir(path)
    for source in sorted(folder.rglob("*")):
        place = f"{path}/{source.relative_to(folder).as_posix()}"
        if source.is_dir():
            storage.create_dir(place)
        else:
            with source.open("rb") as file, storage.open_output_stream(place) as target:
                shutil.copyfileobj(file, target, _COPIED_BYTES)
