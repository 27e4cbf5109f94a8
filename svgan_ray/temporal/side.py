"""What a training step computes beside its main path: on a second thread where there is one, else at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.workers import Workers

__all__ = ["AtOnce", "second_thread", "side_of"]

SWITCH_INTERVAL_S = 5e-4
"""Both threads are made of operations that take less than Python's usual turn of 5 ms."""

P = ParamSpec("P")
R = TypeVar("R")


class AtOnce(Executor):
    """Does what is submitted before it goes on."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        done: Future[R] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def side_of(config: TemporalConfig, device: torch.device | str, workers: Workers) -> Executor:
    """A second thread where torch may use several CPU threads and the networks are small.

    Small ones gain nothing from operations of several threads, so these get one from here on. Networks of W+
    do gain, and several workers must meet in one order: they have no second thread. No bit depends on it.
    """
    alone = torch.device(device).type == "cpu" and workers.all_reduce is None
    if torch.get_num_threads() < 2 or config.head != "basis" or not alone:
        return AtOnce()
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return second_thread()


def second_thread() -> Executor:
    """A thread whose operations have one thread each: every new one would start with all cores."""
    return ThreadPoolExecutor(1, "penalties", initializer=torch.set_num_threads, initargs=(1,))
