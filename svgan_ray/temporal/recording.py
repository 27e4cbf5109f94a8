"""How a device is given the operations of a step: one by one, or recorded once and then all in one launch.

The networks are small and the recurrence is long: on a GPU thousands of short kernels wait for Python to
launch them. A CUDA graph launches them together. What is recorded may depend on nothing but its inputs and
what it changes in place: what Python decides by the step belongs into the key, and no value may be read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from svgan_ray.temporal.workers import Workers

__all__ = ["Capture", "OneByOne", "Recorder", "recorder_of"]

R = TypeVar("R")
Capture = Callable[[Callable[[], R]], tuple[Callable[[], object], R]]
"""Takes in what work does, without doing it, and returns how to do it and its results, which hold then."""

_log = logging.getLogger(__name__)


class OneByOne:
    """Gives a device one operation after another."""

    def run(self, key: Hashable, work: Callable[..., R], *inputs: Tensor) -> R:
        """What `work` makes of its inputs; the result may be overwritten when next run with this key."""
        return work(*inputs)


@dataclass(frozen=True)
class _Recording:
    inputs: tuple[Tensor, ...]
    replay: Callable[[], object]
    outputs: Any


class Recorder(OneByOne):
    """Records what a key's work does when it is run a second time, and repeats that from then on.

    The first time things are made that last, such as the memory of an optimiser. Where a device refuses to
    record, everything goes on one by one.
    """

    def __init__(self, capture: Capture[Any]) -> None:
        self._capture: Capture[Any] | None = capture
        self._begun: set[Hashable] = set()
        self._recordings: dict[Hashable, _Recording] = {}

    def run(self, key: Hashable, work: Callable[..., R], *inputs: Tensor) -> R:
        if key in self._begun and key not in self._recordings and self._capture:
            self._record(key, work, inputs, self._capture)
        self._begun.add(key)
        recording = self._recordings.get(key)
        if recording is None:
            return work(*inputs)
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        recording.replay()
        outputs: R = recording.outputs
        return outputs

    def _record(
        self, key: Hashable, work: Callable[..., R], inputs: tuple[Tensor, ...], capture: Capture[R]
    ) -> None:
        own = tuple(x.detach().clone() for x in inputs)
        try:
            replay, outputs = capture(partial(work, *own))
        except RuntimeError as error:
            self._capture = None
            _log.warning("steps are not recorded as CUDA graphs, which makes them slower: %s", error)
        else:
            self._recordings[key] = _Recording(own, replay, outputs)


def recorder_of(device: torch.device | str, workers: Workers) -> OneByOne:
    """CUDA graphs on a GPU, but for workers that meet within a step."""
    if torch.device(device).type != "cuda" or workers.all_reduce is not None:
        return OneByOne()
    return Recorder(partial(_cuda_graph, torch.cuda.graph_pool_handle()))


def _cuda_graph(pool: Any, work: Callable[[], R]) -> tuple[Callable[[], object], R]:
    """Graphs share their memory: results hold until another graph is launched."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        outputs = work()
    return graph.replay, outputs
