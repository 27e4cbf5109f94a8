"""One process that holds the runs of a job and receives events from workers on any machine.

Workers start, are killed and resume, while MLflow's database and the spool are on the machine where the job
was started. So an actor beside the driver holds the runs, and an event that it received is not lost with the
worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svgan_ray.orchestration.runtime import telemetry  # noqa: F401  reports the depth of this process's spool
from svgan_ray.runs import Run, default_uri, open_run
from svgan_ray.runs.events import Event
from svgan_ray.runs.local_run import LocalRun
from svgan_ray.runs.provenance import program
from svgan_ray.runs.run import Kind, Status

__all__ = ["Journal", "RemoteRun", "RunKey", "start_journal"]


@dataclass(frozen=True)
class RunKey:
    """The key of a run; see `open_run`."""

    experiment: str
    name: str
    kind: Kind
    identity: str
    parent: str | None = None


class Journal:
    """The actor, which holds the runs by identity and opens each one at its first event."""

    def __init__(self, spool_dir: str, uri: str, source: str) -> None:
        self._spool_dir, self._uri, self._source = Path(spool_dir), uri, source
        self._runs: dict[str, LocalRun] = {}
        self._last_steps: dict[str, dict[str, int]] = {}  # by run, by metric
        self._latest: dict[str, tuple[int, dict[str, float]]] = {}

    def append(self, key: RunKey, event: Event) -> None:
        """Pass an event on to its run; metrics of a step that was logged before are left out."""
        new = self._unknown_metrics(key, event) if event.kind == "metrics" else event
        if new is not None:
            self._run(key).append(new)

    def latest(self, key: RunKey) -> tuple[int, dict[str, float]]:
        """The last step logged so far and its metrics."""
        return self._latest.get(key.identity, (0, {}))

    def finish(self, key: RunKey, status: Status) -> None:
        """Close a run; the next event opens it again."""
        self._run(key).finish(status)
        del self._runs[key.identity]

    def finish_all(self, status: Status) -> None:
        """Close all runs that are open."""
        for run in self._runs.values():
            run.finish(status)
        self._runs.clear()

    def _unknown_metrics(self, key: RunKey, event: Event) -> Event | None:
        """The event without known metrics: a training that was killed repeats steps, with equal values."""
        step, values = event.payload["step"], event.payload["values"]
        last_steps = self._last_steps.setdefault(key.identity, {})
        new = {name: value for name, value in values.items() if step > last_steps.get(name, -1)}
        if not new:
            return None
        last_steps.update(dict.fromkeys(new, step))
        self._latest[key.identity] = (step, values)
        return dataclasses.replace(event, payload={**event.payload, "values": new})

    def _run(self, key: RunKey) -> LocalRun:
        if key.identity not in self._runs:
            named = (key.experiment, key.name, key.kind, key.identity, key.parent)
            self._runs[key.identity] = open_run(*named, self._spool_dir, self._uri, self._source)
        return self._runs[key.identity]


def start_journal(name: str | None = None) -> Any:
    """Start the actor on this machine. If it is given a name, others find it with `ray.get_actor`."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here, "name": name}
    place = str(Path("mlspool").absolute()), default_uri()
    return ray.remote(Journal).options(**options).remote(*place, program())


@dataclass(frozen=True)
class RemoteRun(Run):
    """A run as workers see it, the same on every machine. If the journal dies, only `finish` fails.

    The journal reads paths on the machine of the job. So log_artifact and log_model work only on that
    machine; they wait until the content is copied.
    """

    journal: Any  # the actor's handle
    key: RunKey

    def append(self, event: Event) -> None:
        taken_in = self.journal.append.remote(self.key, event)
        if event.attachment and isinstance(event.attachment.content, Path):
            with contextlib.suppress(RayActorError):  # the file exists even if the run does not get it
                ray.get(taken_in)

    def latest(self) -> tuple[int, dict[str, float]]:
        """The last step that was logged, and its metrics."""
        return cast("tuple[int, dict[str, float]]", ray.get(self.journal.latest.remote(self.key)))

    def settle(self) -> None:
        """Wait until the journal has received all events of this process, which would be lost with it."""
        with contextlib.suppress(RayActorError):
            self.latest()

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; waits until the server has everything, a minute at most."""
        ray.get(self.journal.finish.remote(self.key, status))
