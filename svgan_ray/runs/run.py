"""What a job tells about itself: parameters, metrics, pictures and files of one run."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from svgan_ray.errors import InputError, MlflowError
from svgan_ray.runs.drain import Drain
from svgan_ray.runs.names import image_name, metric_name
from svgan_ray.runs.provenance import program, provenance
from svgan_ray.runs.spool import Event, RunInfo, Spool

__all__ = ["Kind", "LocalRun", "Run", "Status", "default_uri", "open_run"]

_log = logging.getLogger(__name__)

Kind = Literal["invert", "train", "tune", "trial", "sample", "evaluate", "demo"]
Status = Literal["FINISHED", "FAILED", "KILLED"]

_FINISH_TIMEOUT_S = 60.0
_DIGEST_CHARACTERS = 36


class Run(Protocol):
    """One run. No method waits for a server or fails with it."""

    @property
    def experiment_id(self) -> str:
        """MLflow's id, empty until the server has been reached (`flush` waits for that)."""

    @property
    def run_id(self) -> str:
        """MLflow's id, empty until the server has been reached."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Settings; one that differs from what the run began with becomes a tag `changed_param.<name>`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        """A file or folder, copied now and uploaded later below `folder`."""

    def log_file(self, path: str, content: bytes) -> None:
        """A file of the run, at a path below its artifacts."""

    def log_model(self, folder: Path, name: str, sha256: str) -> None:
        """A trained model, see runs/registry.py; copied now, registered under `name` later."""

    def log_image(self, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        """uint8 [H, W, 3] or [H, W]; images of one key become a step slider."""

    def log_input(self, name: str, digest: str, source: str, context: str) -> None:
        """The data that the run read, such as a snapshot with its digest."""

    def link(self, related: Mapping[str, str]) -> None:
        """Name what this run shares with others, such as {"model": name}: its page leads to them."""

    def set_tags(self, tags: Mapping[str, object]) -> None: ...

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all events so far have reached the server; false where they have not."""

    def finish(self, status: Status = "FINISHED") -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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
    """Open the run that `identity` names, the same one again after an interruption.

    `parent` is the identity of the run that this one belongs to; `spool_dir` defaults to mlspool in the
    working directory, `uri` to `default_uri()`, `source` to the program that was called. A worker process,
    working elsewhere and started by Ray, needs all three.
    """
    for name in filter(None, (identity, parent)):
        if set(name) & set("'\"`"):
            raise InputError(
                f"identity {name!r} holds a quotation mark, which MLflow's search cannot express"
            )
    spool_dir = (spool_dir or Path("mlspool")).resolve()
    tags = provenance(source or program())
    info = RunInfo(experiment, run_name, kind, identity, parent, opened_ms=_now_ms(), tags=tags)
    try:
        spool = Spool.create(spool_dir, info)
    except OSError as error:
        raise MlflowError(f"cannot keep the run's events in {spool_dir}: {error}") from error
    return LocalRun(spool, Drain(spool, spool_dir, uri or default_uri()))


class LocalRun:
    """Appends events to a spool on disk, which a background thread empties into MLflow."""

    def __init__(self, spool: Spool, drain: Drain) -> None:
        self._spool = spool
        self._drain = drain
        self._is_finished = self._is_delivered = False
        self._append({"kind": "start"})
        self._drain.start()

    @property
    def experiment_id(self) -> str:
        return self._drain.experiment_id

    @property
    def run_id(self) -> str:
        return self._drain.run_id

    def log_params(self, params: Mapping[str, object]) -> None:
        self._append({"kind": "params", "values": {name: str(value) for name, value in params.items()}})

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        values = {metric_name(name): float(value) for name, value in metrics.items()}
        self._append({"kind": "metrics", "time_ms": _now_ms(), "step": int(step), "values": values})

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        path = Path(path)
        if not path.exists():
            raise InputError(f"artifact {path} does not exist; write it before log_artifact")
        copy: Callable[[Path, Path], Any] = shutil.copytree if path.is_dir() else shutil.copyfile
        self._append_file(
            {"kind": "artifact", "folder": folder}, path.name, lambda target: copy(path, target)
        )

    def log_file(self, path: str, content: bytes) -> None:
        parent, name = PurePosixPath(path).parent.as_posix(), PurePosixPath(path).name
        event = {"kind": "artifact", "folder": "" if parent == "." else parent}
        self._append_file(event, name, lambda target: target.write_bytes(content))

    def log_model(self, folder: Path, name: str, sha256: str) -> None:
        event = {"kind": "model", "name": name, "sha256": sha256}
        self._append_file(event, "model", lambda target: shutil.copytree(folder, target))

    def log_image(self, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise InputError(
                f"log_image({key!r}) takes uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        name = image_name(key, step, _now_ms(), uuid.uuid4().hex)
        # Encoding a large film strip takes tens of milliseconds: the raw pixels are kept here.
        self._append_file(
            {"kind": "image", "name": name},
            "image.npy",
            lambda target: np.save(target, image, allow_pickle=False),
        )

    def log_input(self, name: str, digest: str, source: str, context: str) -> None:
        digest = digest[:_DIGEST_CHARACTERS]
        self._append({"kind": "input", "name": name, "digest": digest, "source": source, "context": context})

    def link(self, related: Mapping[str, str]) -> None:
        self._append({"kind": "link", "values": dict(related)})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        self._append({"kind": "tags", "values": {name: str(value) for name, value in tags.items()}})

    def flush(self, timeout_s: float = 30.0) -> bool:
        return self._is_delivered if self._is_finished else self._drain.flush(timeout_s)

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; waits at most a minute while the server takes the rest; later calls do nothing."""
        if self._is_finished:
            return
        self._append({"kind": "finish", "status": status, "time_ms": _now_ms()})
        self._is_finished = True
        self._is_delivered = self._drain.stop(_FINISH_TIMEOUT_S)
        if not self._is_delivered:
            _log.warning("undelivered events of the run stay in %s; replay them later", self._spool.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish("FINISHED" if kind is None else "FAILED")

    def _append_file(self, event: Event, name: str, write: Callable[[Path], object]) -> None:
        try:
            path = self._spool.name_file(name)
            write(path)
        except OSError as error:
            _log.warning("cannot keep %s for the run: %s", name, error)
            return
        self._append({**event, "file": str(path.relative_to(self._spool.folder))})

    def _append(self, event: Event) -> None:
        if self._is_finished:
            _log.warning(
                "run %r is finished, a later %s event is dropped", self._spool.info.name, event["kind"]
            )
            return
        try:
            self._spool.append(event)
        except OSError as error:
            _log.warning("cannot keep a %s event of the run: %s", event["kind"], error)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
