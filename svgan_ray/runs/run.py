"""What a job tells of itself: parameters, metrics, pictures and files of one run of MLflow."""

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
    """What a metric was measured on, such as a snapshot with its digest; see `Run.log_input`."""

    name: str
    digest: str


class Run(ABC):
    """One run. No method but `finish` waits for a server, and none fails with it.

    As a context manager it is finished at the end, as failed where an error leaves the block.
    """

    @abstractmethod
    def append(self, event: Event) -> None:
        """Take an event in; it reaches MLflow in its turn."""

    @abstractmethod
    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; waits at most a minute while the server takes the rest."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Settings; one that differs from what the run began with becomes a tag `changed_param.<name>`."""
        self._tell("params", values={name: str(value) for name, value in params.items()})

    def log_metrics(
        self, metrics: Mapping[str, float], step: int, model: str = "", dataset: Dataset | None = None
    ) -> None:
        """Values at a step, perhaps of a model and measured on a dataset; names lose what MLflow refuses.

        `model` is the name of a checkpoint of `log_checkpoint`, or the SHA-256 of a model of `log_model`,
        whichever run of the experiment logged it; where there is none, the values are the run's alone.
        """
        values = {_metric_name(name): float(value) for name, value in metrics.items()}
        payload: dict[str, Any] = {"time_ms": now_ms(), "step": int(step), "values": values}
        if model:
            payload |= {"model": _model_name(model)}
        if dataset:
            payload |= {"dataset": dataset.name, "digest": dataset.digest[:_DIGEST_CHARACTERS]}
        self.append(Event("metrics", payload))

    def log_checkpoint(self, name: str, step: int, address: str) -> None:
        """A checkpoint that is kept at `address`: it becomes a logged model of the run, without files."""
        self._tell("checkpoint", name=_model_name(name), step=int(step), address=address)

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        """A file or folder, copied now and uploaded later below `folder`. Raises InputError."""
        path = Path(path)
        if not path.exists():
            raise InputError(f"artifact {path} does not exist; write it before log_artifact")
        self._tell("artifact", Attachment(path.name, path), folder=folder)

    def log_file(self, path: str, content: bytes) -> None:
        """A file of the run, at a path below its artifacts."""
        parent, name = PurePosixPath(path).parent.as_posix(), PurePosixPath(path).name
        self._tell("artifact", Attachment(name, content), folder="" if parent == "." else parent)

    def log_model(self, folder: Path, name: str, sha256: str) -> None:
        """A trained model, see runs/registry.py; copied now, registered under `name` later."""
        self._tell("model", Attachment("model", folder), name=name, sha256=sha256)

    def log_image(self, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        """uint8 [H, W, 3] or [H, W]; images of one key become a step slider. Raises InputError."""
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise InputError(
                f"log_image({key!r}) takes uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        name = compat.image_name(key, step, now_ms(), uuid.uuid4().hex)
        # Encoding a large film strip takes tens of milliseconds: the raw pixels are kept here.
        self._tell("image", Attachment("image.npy", image), name=name)

    def log_input(self, name: str, digest: str, source: str, context: str = "training") -> None:
        """The data that the run read, such as a snapshot with its digest."""
        self._tell("input", name=name, digest=digest[:_DIGEST_CHARACTERS], source=source, context=context)

    def link(self, related: Mapping[str, str]) -> None:
        """Name what this run shares with others, such as {"model": name}: its page leads to them."""
        self._tell("link", values=dict(related))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Words about the run by name; a later word of a name takes the earlier one's place."""
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
    """`name` with what MLflow refuses in that of a logged model replaced."""
    return re.sub("[/:.%\"']", "_", name)


def _metric_name(name: str) -> str:
    """`name` with what MLflow refuses in it replaced."""
    return re.sub(r"[^\w\-.: /]", "_", name, flags=re.ASCII)[:250]


def now_ms() -> int:
    """Unix time in whole milliseconds, as MLflow counts it."""
    return time.time_ns() // 1_000_000
