"""Events into MLflow: find or open the run, then apply events so that applying them twice changes nothing.

What MLflow 3.17 does that this rests on: a metric point is unique by (key, timestamp, step, value), so that a
repeat with the first timestamp is dropped; a parameter cannot change; tags and artifacts are overwritten.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import numpy as np

from svgan_ray.errors import MlflowError
from svgan_ray.runs import registry
from svgan_ray.runs.client import artifact_root, connect, database_path
from svgan_ray.runs.spool import Event, RunInfo

if TYPE_CHECKING:
    from mlflow.entities import Metric

__all__ = [
    "CHANGED_PARAMETER_TAG",
    "IDENTITY_TAG",
    "KIND_TAG",
    "LINK_TAG",
    "MlflowSink",
    "RejectedError",
]

IDENTITY_TAG = "svgan_ray.identity"
KIND_TAG = "svgan_ray.kind"
CHANGED_PARAMETER_TAG = "changed_param."
LINK_TAG = "svgan_ray.link."

_METRICS_A_REQUEST = 1000
_PARAMETERS_A_REQUEST = 100
_PARAMETER_CHARACTERS = 6000
_TAG_CHARACTERS = 8000
_PREVIEW_SIDE = 1024  # the UI shows it on the whole screen, too
_NOTE_TAG, _NOTE = "mlflow.note.content", "Runs of the same "
_SHOWN_CHARACTERS = 40
_PERMANENT = ("INVALID_PARAMETER_VALUE", "INVALID_STATE")


class RejectedError(MlflowError):
    """MLflow will never take this event, however often it is sent."""


class MlflowSink:
    """One run of an MLflow server or database, opened by identity at the first event."""

    def __init__(self, uri: str, info: RunInfo, spool_dir: Path) -> None:
        self._info = info
        database = database_path(uri)
        lock = database.with_name(f"{database.name}.lock") if database else spool_dir / "open.lock"
        with _locked(lock):  # processes of one host must not create the same database or run twice
            self._client = connect(uri)
            self.experiment_id = self._experiment(uri)
            self.run_id, self._is_reopened = self._open()
        self._logged: dict[str, set[tuple[int, str]]] = {}

    def send(self, events: list[Event], folder: Path) -> None:
        """Apply a run of metrics or one other event; raises RejectedError, or what the client raises."""
        with _rejections():
            if events[0]["kind"] == "metrics":
                points = [point for event in events for point in self._new_points(event)]
                for first in range(0, len(points), _METRICS_A_REQUEST):
                    self._client.log_batch(self.run_id, metrics=points[first : first + _METRICS_A_REQUEST])
            else:
                self._apply(events[0], folder)

    def close(self, status: str, time_ms: int) -> None:
        """Say how the run ended, and when."""
        self._client.set_terminated(self.run_id, status, time_ms)

    def _experiment(self, uri: str) -> str:
        name = self._info.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            root = artifact_root(uri)
            location = (root / quote(name, safe=" ")).as_uri() if root else None
            return self._client.create_experiment(name, artifact_location=location)
        experiment_id = experiment.experiment_id
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment_id)
        return experiment_id

    def _open(self) -> tuple[str, bool]:
        info = self._info
        found = self._find(info.identity)
        tags = {"mlflow.runName": info.name, KIND_TAG: info.kind, **info.tags}
        if info.parent is not None:
            # A parent that has not reached the server yet gets its run here and its name when it does.
            parent_id = self._find(info.parent) or self._create(info.parent, {"mlflow.runName": info.parent})
            tags["mlflow.parentRunId"] = parent_id
        if found is None:
            return self._create(info.identity, tags), False
        self._send_tags(found, tags)
        return found, True

    def _find(self, identity: str) -> str | None:
        query = f"tags.`{IDENTITY_TAG}` = '{identity}'"
        runs = self._client.search_runs([self.experiment_id], query, order_by=["attributes.start_time ASC"])
        return runs[0].info.run_id if runs else None

    def _create(self, identity: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(
            self.experiment_id, start_time=self._info.opened_ms, tags={IDENTITY_TAG: identity, **tags}
        )
        return cast(str, run.info.run_id)

    def _new_points(self, event: Event) -> Iterator[Metric]:
        """Metrics of one event, without those that a resumed run has logged before its interruption.

        Steps between the last checkpoint and a crash run twice; the same value at a step is one point.
        """
        from mlflow.entities import Metric

        for name, value in event["values"].items():
            if not self._is_reopened or (event["step"], repr(value)) not in self._history(name):
                yield Metric(name, value, event["time_ms"], event["step"])

    def _history(self, name: str) -> set[tuple[int, str]]:
        if name not in self._logged:
            points = self._client.get_metric_history(self.run_id, name)
            self._logged[name] = {(point.step, repr(point.value)) for point in points}  # repr: nan equals nan
        return self._logged[name]

    def _apply(self, event: Event, folder: Path) -> None:
        match event["kind"]:
            case "start":
                self._client.update_run(self.run_id, status="RUNNING")
            case "params":
                self._send_params(event["values"])
            case "tags":
                self._send_tags(self.run_id, event["values"])
            case "artifact":
                self._send_artifact(folder / event["file"], event["folder"])
            case "image":
                self._send_image(folder / event["file"], event["name"])
            case "model":
                run, model = registry.RunOf(self.experiment_id, self.run_id), folder / event["file"]
                registry.log_model(self._client, run, model, event["name"], event["sha256"])
            case "input":
                self._send_input(event)
            case "link":
                self._send_links(event["values"])
            case "finish":
                self.close(event["status"], event["time_ms"])

    def _send_params(self, values: dict[str, str]) -> None:
        """A parameter keeps the value that the run began with; one changed on resuming becomes a tag."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        values = {name: value[:_PARAMETER_CHARACTERS] for name, value in values.items()}
        new = [Param(name, value) for name, value in values.items() if name not in known]
        for first in range(0, len(new), _PARAMETERS_A_REQUEST):
            self._client.log_batch(self.run_id, params=new[first : first + _PARAMETERS_A_REQUEST])
        changed = {name: value for name, value in values.items() if known.get(name, value) != value}
        self._send_tags(self.run_id, {CHANGED_PARAMETER_TAG + name: value for name, value in changed.items()})

    def _send_tags(self, run_id: str, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value[:_TAG_CHARACTERS]) for name, value in values.items()]
        for first in range(0, len(tags), _PARAMETERS_A_REQUEST):
            self._client.log_batch(run_id, tags=tags[first : first + _PARAMETERS_A_REQUEST])

    def _send_artifact(self, path: Path, folder: str) -> None:
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), "/".join(filter(None, (folder, path.name))))
        elif path.exists():
            self._client.log_artifact(self.run_id, str(path), folder or None)
        else:
            raise RejectedError(f"the spool no longer holds {path}")

    def _send_image(self, path: Path, name: str) -> None:
        """The two files and the tag that the UI makes a step slider of; a repeat overwrites them."""
        from PIL import Image

        image = Image.fromarray(np.load(path, allow_pickle=False))
        full, preview = path.with_name(f"{name}.png"), path.with_name(f"{name}+compressed.webp")
        image.save(full)
        image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        side = max(image.size)  # the UI centres it in a square, which reaches below its card: so fill that
        square = Image.new("RGBA", (side, side))
        square.paste(image, ((side - image.width) // 2, 0))
        square.save(preview)
        for file in (full, preview):
            self._client.log_artifact(self.run_id, str(file), "images")
        self._client.set_tag(self.run_id, "mlflow.loggedImages", "True")

    def _send_input(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(event["name"], event["digest"], "svgan_ray.snapshot", event["source"])
        tag = InputTag("mlflow.data.context", event["context"])
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def _send_links(self, related: dict[str, str]) -> None:
        """Tags that others of the experiment share, and a description that leads to all that have them."""
        self._send_tags(self.run_id, {LINK_TAG + name: value for name, value in related.items()})
        tags = self._client.get_run(self.run_id).data.tags
        if tags.get(_NOTE_TAG, _NOTE).startswith(_NOTE):  # a person's own words stay
            shared = {name: value for name, value in tags.items() if name.startswith(LINK_TAG)}
            links = (self._link(name, value) for name, value in sorted(shared.items()))
            self._client.set_tag(self.run_id, _NOTE_TAG, _NOTE + ", ".join(links))

    def _link(self, tag: str, value: str) -> str:
        """A link in Markdown to the table of runs that share a tag."""
        search = quote(f"tags.`{tag}` = '{value}'", safe="")
        page = f"#/experiments/{self.experiment_id}/runs?searchFilter={search}&workflowType=machine_learning"
        return f"[{tag.removeprefix(LINK_TAG)} {value[:_SHOWN_CHARACTERS]}]({page})"


@contextlib.contextmanager
def _rejections() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in _PERMANENT:
            raise RejectedError(str(error)) from error
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
