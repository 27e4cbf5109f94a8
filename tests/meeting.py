"""Workers of a training as threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor


class Meeting:
    """An all-reduce among threads: everyone waits until all have brought their tensor, then takes the sum."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=60)
        self.tensors: dict[int, Tensor] = {}

    def all_reduce_of(self, rank: int) -> Callable[[Tensor], Tensor]:
        def all_reduce(value: Tensor) -> Tensor:
            self.tensors[rank] = value
            self.barrier.wait()
            total = torch.stack([self.tensors[r] for r in sorted(self.tensors)]).sum(0)
            self.barrier.wait()
            return total

        return all_reduce


def together(meeting: Meeting, work: Callable[[int], None]) -> None:
    """Run `work` once per worker, each in a thread."""
    failures = []

    def run(rank: int) -> None:
        try:
            work(rank)
        except BaseException as error:
            failures.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(meeting.barrier.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
