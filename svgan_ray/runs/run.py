"""The interface through which a job logs parameters, metrics, pictures and files to one run of MLflow."""

from __future__ import annotations

import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from svgan_ray.errors import InputError
from svgan_ray.runs import compat
from svgan_ray.runs.events import Attachment, Event

__all__ = ["Dataset", "Kind", "Run", "Status", "now_ms"]

Kind = Literal["track", "invert", "fit", "train", "tune", "trial", "sample", "evaluate", "demo"]
Status = Literal["FINISHED", "FAILED", "KILLED"]

_DIGEST_CHARACTERS = 36


class Dataset(NamedTuple):
    """The data that a metric was measured on, such as a snapshot with its digest; see `Run.log_input`."""

    name: str
    digest: str


class Run(ABC):
    """One run. Only `finish` waits for a server, and no method fails if the server fails.

    As a context manager, it finishes the run at the end of the block, as failed if an error leaves the block.
    """

    @abstractmethod
    def append(self, event: Event) -> None:
        """Accept an event, which is sent to MLflow later, in order."""

    @abstractmethod
    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; waits at most a minute for the last events to be sent."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log settings; one that differs from the run's first value becomes a tag `changed_param.<name>`."""
        self._tell("params", values={name: str(value) for name, value in params.items()})

    def log_metrics(
        self, metrics: Mapping[str, float], step: int, model: str = "", dataset: Dataset | None = None
    ) -> None:
        """Log values at a step, optionally those of a model, measured on a dataset.

        Characters that MLflow refuses are replaced in the names. `model` is the name of a checkpoint of
        `log_checkpoint`, or the SHA-256 of a model of `log_model`, whichever run of the experiment logged it.
        If there is no such model, the values are logged to the run alone.
        """
        values = {_metric_name(name): float(value) for name, value in metrics.items()}
        payload: dict[str, Any] = {"time_ms": now_ms(), "step": int(step), "values": values}
        if model:
            payload |= {"model": _model_name(model)}
        if dataset:
            payload |= {"dataset": dataset.name, "digest": dataset.digest[:_DIGEST_CHARACTERS]}
        self.append(Event("metrics", payload))

    def log_checkpoint(self, name: str, step: int, address: str) -> None:
        """Log a checkpoint that is stored at `address`, as a logged model of the run without files."""
        self._tell("checkpoint", name=_model_name(name), step=int(step), address=address)

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        """Log a file or folder, which is copied now and uploaded later below `folder`. Raises InputError."""
        path = Path(path)
        if not path.exists():
            raise InputError(f"artifact {path} does not exist; write it before log_artifact")
        self._tell("artifact", Attachment(path.name, path), folder=folder)

    def log_file(self, path: str, content: bytes) -> None:
        """Log a file at a path below the run's artifacts."""
        parent, name = PurePosixPath(path).parent.as_posix(), PurePosixPath(path).name
        self._tell("artifact", Attachment(name, content), folder="" if parent == "." else parent)

    def log_model(self, folder: Path, name: str, sha256: str) -> None:
        """Log a trained model (see runs/registry.py), which is copied now and registered as `name` later."""
        self._tell("model", Attachment("model", folder), name=name, sha256=sha256)

    def log_image(self, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        """Log an image uint8 [H, W, 3] or [H, W]; images of a key form a step slider. Raises InputError."""
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise InputError(
                f"log_image({key!r}) takes uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        name = compat.image_name(key, step, now_ms(), uuid.uuid4().hex)
        # Encoding a large film strip takes tens of milliseconds, so only the raw pixels are stored here.
        self._tell("image", Attachment("image.npy", image), name=name)

    def log_input(self, name: str, digest: str, source: str, context: str = "training") -> None:
        """Log the data that the run read, such as a snapshot with its digest."""
        self._tell("input", name=name, digest=digest[:_DIGEST_CHARACTERS], source=source, context=context)

    def link(self, related: Mapping[str, str]) -> None:
        """Link this run to the runs that share a name with it, such as {"model": name}, on its page."""
        self._tell("link", values=dict(related))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags by name; a later value of a tag replaces the earlier one."""
        self._tell("tags", values={name: str(value) for name, value in tags.items()})

    def _tell(self, kind: str, attachment: Attachment | None = None, **payload: Any) -> None:
        self.append(Event(kind, payload, attachment))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish("FINISHED" if kind is None else "FAILED")


def _model_name(name: str) -> str:
    """`name` with the characters replaced that MLflow refuses in names of logged models."""
    return re.sub("[/:.%\"']", "_", name)


def _metric_name(name: str) -> str:
    """`name` with the characters replaced that MLflow refuses in names of metrics."""
    return re.sub(r"[^\w\-.: /]", "_", name, flags=re.ASCII)[:250]


def now_ms() -> int:
    """Unix time in whole milliseconds, as MLflow counts it."""
    return time.time_ns() // 1_000_000
