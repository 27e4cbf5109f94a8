"""A run of this process: its events go to a spool on disk, and a background thread sends them to MLflow."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from svgan_ray.errors import InputError, MlflowError
from svgan_ray.runs.drain import Drain
from svgan_ray.runs.events import Event
from svgan_ray.runs.provenance import program, provenance
from svgan_ray.runs.run import Kind, Run, Status, now_ms
from svgan_ray.runs.spool import RunInfo, Spool

__all__ = ["LocalRun", "default_uri", "open_run"]

_log = logging.getLogger(__name__)

_FINISH_TIMEOUT_S = 60.0


def default_uri() -> str:
    """MLFLOW_TRACKING_URI, else a SQLite database in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def open_run(
    experiment: str,
    run_name: str,
    kind: Kind,
    identity: str,
    parent: str | None = None,
    spool_dir: Path | None = None,
    uri: str | None = None,
    source: str | None = None,
) -> LocalRun:
    """Open the run that `identity` names; after an interruption, this opens the same run again.

    `parent` is the identity of the run that this one belongs to. `spool_dir` defaults to mlspool in the
    working directory, `uri` to `default_uri()`, `source` to the program that was called. A worker process
    needs all three, because Ray starts it in another directory. Raises InputError, MlflowError.
    """
    for name in filter(None, (identity, parent)):
        if set(name) & set("'\"`"):
            raise InputError(
                f"identity {name!r} holds a quotation mark, which MLflow's search cannot express"
            )
    spool_dir = (spool_dir or Path("mlspool")).resolve()
    tags = provenance(source or program())
    info = RunInfo(experiment, run_name, kind, identity, parent, opened_ms=now_ms(), tags=tags)
    try:
        spool = Spool.create(spool_dir, info)
    except OSError as error:
        raise MlflowError(f"cannot store the run's events in {spool_dir}: {error}") from error
    return LocalRun(spool, Drain(spool, spool_dir, uri or default_uri()))


class LocalRun(Run):
    """Appends events to a spool; no failure of its disk or of the server reaches the caller."""

    def __init__(self, spool: Spool, drain: Drain) -> None:
        self._spool = spool
        self._drain = drain
        self._is_finished = self._is_delivered = False
        self.append(Event("start", {}))
        self._drain.start()

    @property
    def experiment_id(self) -> str:
        """MLflow's id, empty until the server has been reached (`flush` waits for that)."""
        return self._drain.experiment_id

    @property
    def run_id(self) -> str:
        """MLflow's id, empty until the server has been reached."""
        return self._drain.run_id

    def append(self, event: Event) -> None:
        if self._is_finished:
            _log.warning("run %r is finished, a later %s event is dropped", self._spool.info.name, event.kind)
            return
        try:
            self._spool.append(event)
        except OSError as error:
            _log.warning("cannot store a %s event of the run: %s", event.kind, error)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all events so far have reached the server; returns false if they have not."""
        return self._is_delivered if self._is_finished else self._drain.flush(timeout_s)

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; waits at most a minute for the last events to be sent; later calls do nothing."""
        if self._is_finished:
            return
        self.append(Event("finish", {"status": status, "time_ms": now_ms()}))
        self._is_finished = True
        self._is_delivered = self._drain.stop(_FINISH_TIMEOUT_S)
        if not self._is_delivered:
            _log.warning("undelivered events of the run stay in %s; replay them later", self._spool.folder)
