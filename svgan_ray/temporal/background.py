"""Where a training step computes its penalties: on a second thread where that is faster, else inline."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.workers import Workers

__all__ = ["InlineExecutor", "background_executor", "one_thread_an_operation", "second_thread"]

SWITCH_INTERVAL_S = 5e-4
"""How long a thread may hold Python's lock; each operation here takes less than the default of 5 ms."""

P = ParamSpec("P")
R = TypeVar("R")


class InlineExecutor(Executor):
    """An executor that calls each submitted function immediately, in the thread that submits it."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        done: Future[R] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextmanager
def background_executor(
    config: TemporalConfig, device: torch.device | str, workers: Workers
) -> Iterator[Executor]:
    """A second thread where torch may use several CPU threads and a GAN's networks are small, for a `with`.

    Operations of small networks do not get faster with several threads. So within the block every operation
    of the process uses one thread; after the block the old setting is restored. Networks that emit W+ do get
    faster, other families have no penalties to compute, and several workers must communicate in one order: in
    these three cases everything runs inline. A GAN's results have the same bits in every case.
    """
    is_small_gan = config.family == "gan" and config.latent_space == "basis"
    is_alone_on_cpu = torch.device(device).type == "cpu" and workers.all_reduce is None
    if torch.get_num_threads() < 2 or not is_small_gan or not is_alone_on_cpu:
        yield InlineExecutor()
        return
    with one_thread_an_operation(), second_thread() as executor:
        yield executor


@contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Give each torch operation one CPU thread, and let Python switch between its threads more often.

    Both are settings of the whole process, so they also hold for its other threads until the block ends.
    """
    threads, switch_interval_s = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(switch_interval_s)


def second_thread() -> Executor:
    """A background thread whose torch operations use one thread; by default a new thread uses all cores."""
    return ThreadPoolExecutor(1, "penalties", initializer=torch.set_num_threads, initargs=(1,))
