"""How the operations of a training step are launched: one by one, or recorded once and replayed together.

The networks are small and the recurrence is long, so a GPU has thousands of short kernels that wait for
Python to launch them. A CUDA graph launches all of them at once. Recorded work may depend only on its inputs
and on the tensors that it changes in place. Anything that Python decides per step must be part of the key,
and the work must not read the value of a tensor.
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
"""Records work without executing it; returns a function that executes it, and the results it then fills."""

_log = logging.getLogger(__name__)


class OneByOne:
    """Launches one operation after another."""

    def run(self, key: Hashable, work: Callable[..., R], *inputs: Tensor) -> R:
        """The result of `work` on its inputs; the next call with the same key may overwrite it."""
        return work(*inputs)


@dataclass(frozen=True)
class _Recording:
    inputs: tuple[Tensor, ...]
    replay: Callable[[], object]
    outputs: Any


class Recorder(OneByOne):
    """Records the work of a key when it is run for the second time, and replays it from then on.

    The first run is not recorded because it allocates lasting memory, such as an optimiser's state. Where a
    device refuses to record, operations are launched one by one.
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
    """CUDA graphs on a GPU, unless several workers communicate within a step."""
    if torch.device(device).type != "cuda" or workers.all_reduce is not None:
        return OneByOne()
    return Recorder(partial(_cuda_graph, torch.cuda.graph_pool_handle()))


def _cuda_graph(pool: Any, work: Callable[[], R]) -> tuple[Callable[[], object], R]:
    """Record work as a CUDA graph. Graphs share memory: results are valid until another graph is launched."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        outputs = work()
    return graph.replay, outputs
