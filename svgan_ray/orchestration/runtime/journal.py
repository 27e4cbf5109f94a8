"""One process that keeps the runs of a job, told by workers on any machine.

Workers come and go, get killed and resume; MLflow's database and the spool lie where the job was started.
So an actor beside the driver holds the runs, and what a worker tells it is not lost with the worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svgan_ray.orchestration.runtime import telemetry  # noqa: F401  the journal's process tells how deep its spools are
from svgan_ray.runs import default_uri, open_run
from svgan_ray.runs.provenance import program
from svgan_ray.runs.run import Kind, LocalRun, Status

__all__ = ["Journal", "RemoteRun", "RunKey", "start_journal"]


@dataclass(frozen=True)
class RunKey:
    """What names a run; see `open_run`."""

    experiment: str
    name: str
    kind: Kind
    identity: str
    parent: str | None = None


class Journal:
    """The actor: runs by identity, opened when they are first written to."""

    def __init__(self, spool_dir: str, uri: str, source: str) -> None:
        self._spool_dir, self._uri, self._source = Path(spool_dir), uri, source
        self._runs: dict[str, LocalRun] = {}
        self._told: dict[str, dict[str, int]] = {}  # last step by metric
        self._latest: dict[str, tuple[int, dict[str, float]]] = {}

    def params(self, run: RunKey, values: dict[str, object]) -> None:
        self._run(run).log_params(values)

    def tags(self, run: RunKey, values: dict[str, object]) -> None:
        self._run(run).set_tags(values)

    def input(self, run: RunKey, name: str, digest: str, source: str) -> None:
        self._run(run).log_input(name, digest, source, "training")

    def link(self, run: RunKey, related: dict[str, str]) -> None:
        self._run(run).link(related)

    def metrics(self, run: RunKey, values: dict[str, float], step: int) -> None:
        """A step that was told before is trained again after a kill, to the same values: it is told once."""
        told = self._told.setdefault(run.identity, {})
        new = {name: value for name, value in values.items() if step > told.get(name, -1)}
        if new:
            told.update(dict.fromkeys(new, step))
            self._run(run).log_metrics(new, step)
            self._latest[run.identity] = (step, values)

    def image(self, run: RunKey, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        self._run(run).log_image(image, key, step)

    def file(self, run: RunKey, path: str, content: bytes) -> None:
        """A file of the run, at a path below its artifacts."""
        self._run(run).log_file(path, content)

    def model(self, run: RunKey, folder: str, name: str, sha256: str) -> None:
        self._run(run).log_model(Path(folder), name, sha256)

    def latest(self, run: RunKey) -> tuple[int, dict[str, float]]:
        """The last step told so far and its metrics."""
        return self._latest.get(run.identity, (0, {}))

    def finish(self, run: RunKey, status: Status) -> None:
        self._run(run).finish(status)
        del self._runs[run.identity]

    def finish_all(self, status: Status) -> None:
        for run in self._runs.values():
            run.finish(status)
        self._runs.clear()

    def _run(self, run: RunKey) -> LocalRun:
        if run.identity not in self._runs:
            self._runs[run.identity] = open_run(
                run.experiment,
                run.name,
                run.kind,
                run.identity,
                run.parent,
                self._spool_dir,
                self._uri,
                self._source,
            )
        return self._runs[run.identity]


def start_journal(name: str | None = None) -> Any:
    """Start the actor on this machine; by its name, if given one, others find it with `ray.get_actor`."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here, "name": name}
    place = str(Path("mlspool").absolute()), default_uri()
    return ray.remote(Journal).options(**options).remote(*place, program())


@dataclass(frozen=True)
class RemoteRun:
    """A run as workers see it. No call waits for the journal or fails with it."""

    journal: Any  # the actor's handle
    key: RunKey

    def log_params(self, params: Mapping[str, object]) -> None:
        self.journal.params.remote(self.key, dict(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.journal.metrics.remote(self.key, dict(metrics), step)

    def log_file(self, path: str, content: bytes) -> None:
        """A file of the run, at a path below its artifacts."""
        self.journal.file.remote(self.key, path, content)

    def log_model(self, folder: Path, name: str, sha256: str) -> None:
        """A trained model for the registry; from the journal's machine only, waits until it is copied."""
        with contextlib.suppress(RayActorError):  # the model is in its place without the registry, too
            ray.get(self.journal.model.remote(self.key, str(folder), name, sha256))

    def log_image(self, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        """uint8 [H, W, 3]; images of one key become a step slider."""
        self.journal.image.remote(self.key, image, key, step)

    def log_input(self, name: str, digest: str, source: str) -> None:
        self.journal.input.remote(self.key, name, digest, source)

    def link(self, related: Mapping[str, str]) -> None:
        """Name what this run has in common with others: see `Run.link`."""
        self.journal.link.remote(self.key, dict(related))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        self.journal.tags.remote(self.key, dict(tags))

    def latest(self) -> tuple[int, dict[str, float]]:
        """The last step that was told, and its metrics."""
        return cast("tuple[int, dict[str, float]]", ray.get(self.journal.latest.remote(self.key)))

    def settle(self) -> None:
        """Wait until what this process told has been taken in: what it still owns would be lost with it."""
        with contextlib.suppress(RayActorError):
            self.latest()

    def finish(self, status: Status) -> None:
        """Close the run; waits until the server has everything, a minute at most."""
        ray.get(self.journal.finish.remote(self.key, status))
