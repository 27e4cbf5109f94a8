"""The background thread that empties a spool into MLflow, and the replay of spools left behind."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from svgan_ray.errors import MlflowError
from svgan_ray.runs.client import without_password
from svgan_ray.runs.events import Event
from svgan_ray.runs.mlflow_sink import MlflowSink, RejectedError
from svgan_ray.runs.spool import RunInfo, Spool

__all__ = ["Drain", "ReplayReport", "Waiting", "replay", "waiting", "watch_depth"]

_log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_MOST_DOUBLINGS = 5

_watchers: list[Callable[[str, int], None]] = []


def watch_depth(on_attempt: Callable[[str, int], None]) -> None:
    """Call `on_attempt` with a run's name and its undelivered bytes after each attempt to deliver them."""
    _watchers.append(on_attempt)


@dataclass(frozen=True)
class ReplayReport:
    """Identities of runs whose events were delivered, and how many events the server refused for good."""

    delivered: list[str]
    rejected_events: int


@dataclass(frozen=True)
class Waiting:
    """The events of a run that a dead process left undelivered."""

    info: RunInfo
    size_bytes: int


def waiting(spool_dir: Path) -> list[Waiting]:
    """The events that a replay of `spool_dir` would deliver."""
    found = []
    for spool in Spool.abandoned(spool_dir):
        found.append(Waiting(spool.info, spool.appended_bytes - spool.delivered_bytes))
        spool.close(keep=True)
    return found


def replay(spool_dir: Path, uri: str) -> ReplayReport:
    """Deliver the events that dead processes left in `spool_dir`; spools of living processes are not touched.

    A run whose process died without closing it is closed as killed; a job that opens it later sets it running
    again. Raises MlflowError if the server cannot be reached; events delivered until then stay delivered.
    """
    delivered: list[str] = []
    rejected = 0
    try:
        for spool in Spool.abandoned(spool_dir):
            with contextlib.closing(spool):
                sink = MlflowSink(uri, spool.info, spool_dir)
                rejected += _deliver(spool, sink)
                if not spool.is_finished and not spool.has_living_successor:
                    sink.close("KILLED", spool.last_append_ms)
            delivered.append(spool.info.identity)
    except Exception as error:
        raise MlflowError(
            f"replay of {spool_dir} stopped: {without_password(uri)} did not take the events ({error}). "
            "Nothing is lost; start the server and replay again."
        ) from error
    return ReplayReport(delivered, rejected)


class Drain(threading.Thread):
    """Empties one spool, after the spools that a killed predecessor left; retries with growing waits."""

    def __init__(self, spool: Spool, spool_dir: Path, uri: str) -> None:
        super().__init__(name="svgan-ray-runs", daemon=True)
        self._spool = spool
        self._spool_dir = spool_dir
        self._uri = uri
        self._sink: MlflowSink | None = None
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_stopping = False
        self._attempt = 0
        self._failed_attempt = 0
        self._failures_in_row = 0
        self.experiment_id = self.run_id = ""

    def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._wait()
            try:
                self._empty()
            except Exception as error:  # no failure of the server or the network may reach the caller
                self._failed(error)
            else:
                self._failures_in_row = 0
            for watcher in _watchers:
                watcher(self._spool.info.name, self._spool.appended_bytes - self._spool.delivered_bytes)
        self._spool.close()

    def flush(self, timeout_s: float) -> bool:
        """Whether everything appended so far is delivered; false as soon as an attempt from now on fails."""
        target = self._spool.appended_bytes
        deadline = time.monotonic() + timeout_s
        with self._changed:
            begun = self._attempt
            self._is_wanted = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._spool.delivered_bytes >= target or self._failed_attempt > begun,
                deadline - time.monotonic(),
            )
            return self._spool.delivered_bytes >= target

    def stop(self, timeout_s: float) -> bool:
        """Make one last attempt and end; returns whether everything was delivered."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self.join(timeout_s)
        return not self.is_alive() and self._failures_in_row == 0

    def _wait(self) -> bool:
        """Sleep until the next attempt is due; returns whether it is the last one."""
        with self._changed:
            if not (self._is_wanted or self._is_stopping):
                self._changed.wait(_INTERVAL_S * 2 ** min(self._failures_in_row, _MOST_DOUBLINGS))
            self._is_wanted = False
            self._attempt += 1
            return self._is_stopping

    def _empty(self) -> None:
        if self._spool.is_delivered:
            return
        if self._sink is None:
            for spool in Spool.abandoned(self._spool_dir, self._spool.info.identity):
                with contextlib.closing(spool):
                    if not spool.is_delivered:
                        _deliver(spool, MlflowSink(self._uri, spool.info, self._spool_dir))
            self._sink = MlflowSink(self._uri, self._spool.info, self._spool_dir)
            self.experiment_id, self.run_id = self._sink.experiment_id, self._sink.run_id
        _deliver(self._spool, self._sink, self._advanced)

    def _advanced(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        if self._failures_in_row == 0:
            _log.warning("MLflow does not answer, the run's events wait in %s: %s", self._spool.folder, error)
        self._sink = None  # a restarted server may use another database, so the run must be looked up again
        with self._changed:
            self._failures_in_row += 1
            self._failed_attempt = self._attempt
            self._changed.notify_all()


def _deliver(spool: Spool, sink: MlflowSink, advanced: Callable[[], None] = lambda: None) -> int:
    """Send all pending events; returns the number of events that were refused for good."""
    rejected = 0
    while not spool.is_delivered:
        events, stop = spool.pending()
        try:
            if events:
                sink.send(events)
        except RejectedError:
            rejected += sum(not _deliver_one(spool, sink, event) for event in events)
        spool.advance(stop, events)
        advanced()
    return rejected


def _deliver_one(spool: Spool, sink: MlflowSink, event: Event) -> bool:
    try:
        sink.send([event])
    except RejectedError as error:
        if spool.reject(event, str(error)) == 1:  # warn once: a run deleted in the UI refuses all events
            _log.warning(
                "MLflow refuses events of run %r, kept in %s: %s", spool.info.name, spool.folder, error
            )
        return False
    return True
