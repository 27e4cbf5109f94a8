"""Where a training step computes its penalties: on a second thread where that helps, else in their turn."""

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
"""Both threads are made of operations that take less than Python's usual turn of 5 ms."""

P = ParamSpec("P")
R = TypeVar("R")


class InlineExecutor(Executor):
    """Runs what is submitted at once, in the thread that submits it."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        done: Future[R] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextmanager
def background_executor(
    config: TemporalConfig, device: torch.device | str, workers: Workers
) -> Iterator[Executor]:
    """A second thread where torch may use several CPU threads and the networks are small, for a `with` block.

    Small networks gain nothing from operations of several threads, so within the block these have one thread
    each, in the whole process; after it they have as many as before. Networks of W+ do gain, and several
    workers must meet in one order: for them everything runs inline. No bit depends on which it is.
    """
    is_alone_on_cpu = torch.device(device).type == "cpu" and workers.all_reduce is None
    if torch.get_num_threads() < 2 or config.head != "basis" or not is_alone_on_cpu:
        yield InlineExecutor()
        return
    with one_thread_an_operation(), second_thread() as executor:
        yield executor


@contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """One CPU thread for each of torch's operations and short turns of Python's threads, in this process.

    Both are settings of the process: what else runs in it has them too, until the block ends.
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
    """A thread whose operations have one thread each: every new one would start with all cores."""
    return ThreadPoolExecutor(1, "penalties", initializer=torch.set_num_threads, initargs=(1,))
