"""Sends events to MLflow: finds or opens the run, then applies events so that a repeat changes nothing.

This relies on the following behaviour of MLflow 3.17. A metric point is unique by (key, timestamp, step,
value), so a repeat with the first timestamp is dropped; a parameter cannot change; tags and artifacts are
overwritten.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import numpy as np

from svgan_ray.errors import MlflowError
from svgan_ray.runs import compat, registry
from svgan_ray.runs.client import artifact_root, connect, database_path
from svgan_ray.runs.events import Event
from svgan_ray.runs.spool import RunInfo

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric

__all__ = [
    "CHANGED_PARAMETER_TAG",
    "CHECKPOINT_TAG",
    "IDENTITY_TAG",
    "KIND_TAG",
    "LINK_TAG",
    "STEP_TAG",
    "MlflowSink",
    "RejectedError",
]

IDENTITY_TAG = "svgan_ray.identity"
KIND_TAG = "svgan_ray.kind"
STEP_TAG, CHECKPOINT_TAG = "svgan_ray.step", "svgan_ray.checkpoint"
"""Tags of a checkpoint's logged model: its step, and the address where it is stored."""
CHANGED_PARAMETER_TAG = "changed_param."
LINK_TAG = "svgan_ray.link."

_METRICS_A_REQUEST = 1000
_PARAMETERS_A_REQUEST = 100
_PARAMETER_CHARACTERS = 6000
_TAG_CHARACTERS = 8000
_NOTE_TAG, _NOTE = "mlflow.note.content", "Runs of the same "
_INPUT_FIELDS = ("name", "digest", "source", "context")
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

    def send(self, events: list[Event]) -> None:
        """Apply several events of metrics or one other event; raises RejectedError or the client's errors."""
        kind = events[0].kind
        if kind not in _CALLS:
            raise RejectedError(f"this version of svgan-ray knows no events of the kind {kind!r}")
        with _rejections():
            _CALLS[kind](self, *events)

    def close(self, status: str, time_ms: int) -> None:
        """Record how and when the run ended."""
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
            # If the parent has not reached the server yet, its run is created here and named later.
            parent_id = self._find(info.parent) or self._create(info.parent, {"mlflow.runName": info.parent})
            tags["mlflow.parentRunId"] = parent_id
        if found is None:
            return self._create(info.identity, tags), False
        self._set_tags(found, tags)
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

    def _send_metrics(self, *events: Event) -> None:
        points = [point for event in events for point in self._new_points(event)]
        for first in range(0, len(points), _METRICS_A_REQUEST):
            self._client.log_batch(self.run_id, metrics=points[first : first + _METRICS_A_REQUEST])

    def _new_points(self, event: Event) -> Iterator[Metric]:
        """Metrics of one event, without those that a resumed run logged before its interruption.

        Steps between the last checkpoint and a crash run twice; an equal value at the same step is one point.
        """
        from mlflow.entities import Metric

        time_ms, step = event.payload["time_ms"], event.payload["step"]
        model = self._model(event.payload["model"]) if "model" in event.payload else None
        of = {
            "model_id": model.model_id if model else None,
            "dataset_name": event.payload.get("dataset"),
            "dataset_digest": event.payload.get("digest"),
        }
        for name, value in event.payload["values"].items():
            if not self._is_reopened or (step, repr(value)) not in self._history(name):
                yield Metric(name, value, time_ms, step, **of)

    def _history(self, name: str) -> set[tuple[int, str]]:
        if name not in self._logged:
            points = self._client.get_metric_history(self.run_id, name)
            self._logged[name] = {(point.step, repr(point.value)) for point in points}  # repr: nan equals nan
        return self._logged[name]

    def _start(self, event: Event) -> None:
        self._client.update_run(self.run_id, status="RUNNING")

    def _finish(self, event: Event) -> None:
        self.close(event.payload["status"], event.payload["time_ms"])

    def _send_params(self, event: Event) -> None:
        """A parameter keeps the run's first value; one that changed when the run resumed becomes a tag."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        values = {name: value[:_PARAMETER_CHARACTERS] for name, value in event.payload["values"].items()}
        new = [Param(name, value) for name, value in values.items() if name not in known]
        for first in range(0, len(new), _PARAMETERS_A_REQUEST):
            self._client.log_batch(self.run_id, params=new[first : first + _PARAMETERS_A_REQUEST])
        changed = {name: value for name, value in values.items() if known.get(name, value) != value}
        self._set_tags(self.run_id, {CHANGED_PARAMETER_TAG + name: value for name, value in changed.items()})

    def _send_tags(self, event: Event) -> None:
        self._set_tags(self.run_id, event.payload["values"])

    def _set_tags(self, run_id: str, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value[:_TAG_CHARACTERS]) for name, value in values.items()]
        for first in range(0, len(tags), _PARAMETERS_A_REQUEST):
            self._client.log_batch(run_id, tags=tags[first : first + _PARAMETERS_A_REQUEST])

    def _send_artifact(self, event: Event) -> None:
        path, folder = event.file, event.payload["folder"]
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), "/".join(filter(None, (folder, path.name))))
        elif path.exists():
            self._client.log_artifact(self.run_id, str(path), folder or None)
        else:
            raise RejectedError(f"the spool no longer holds {path}")

    def _send_image(self, event: Event) -> None:
        """Write the two files and the tag for the UI's step slider; a repeat overwrites them."""
        from PIL import Image

        path, name = event.file, event.payload["name"]
        image = Image.fromarray(np.load(path, allow_pickle=False))
        for file in compat.save_image(image, path.parent, name):
            self._client.log_artifact(self.run_id, str(file), compat.IMAGES_FOLDER)
        self._client.set_tag(self.run_id, compat.LOGGED_IMAGES_TAG, "True")

    def _send_checkpoint(self, event: Event) -> None:
        """Log a model without files that holds the checkpoint's address; a repeat changes nothing."""
        from mlflow.entities import LoggedModelOutput

        name, step = event.payload["name"], event.payload["step"]
        tags = {STEP_TAG: str(step), CHECKPOINT_TAG: event.payload["address"]}
        model = self._checkpoint(name) or self._client.create_logged_model(
            self.experiment_id, name, self.run_id, tags, model_type="checkpoint"
        )
        if model.status != "READY":
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
            self._client.finalize_logged_model(model.model_id, "READY")

    def _model(self, named: str) -> LoggedModel | None:
        """A checkpoint of this run by its name, or a trained model of any run by its hash."""
        return self._checkpoint(named) or self._logged_model(f"tags.`{registry.MODEL_TAG}` = '{named}'")

    def _checkpoint(self, name: str) -> LoggedModel | None:
        return self._logged_model(f"name = '{name}' AND source_run_id = '{self.run_id}'")

    def _logged_model(self, query: str) -> LoggedModel | None:
        found = self._client.search_logged_models([self.experiment_id], query)
        return found[0] if found else None

    def _send_model(self, event: Event) -> None:
        run = registry.RunOf(self.experiment_id, self.run_id)
        name, sha256 = event.payload["name"], event.payload["sha256"]
        registry.log_model(self._client, run, event.file, name, sha256)

    def _send_input(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, digest, source, context = (event.payload[field] for field in _INPUT_FIELDS)
        dataset = Dataset(name, digest, "svgan_ray.snapshot", source)
        tag = InputTag(compat.DATASET_CONTEXT_TAG, context)
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def _send_links(self, event: Event) -> None:
        """Set tags that related runs share, and a description with links to the runs that have them."""
        related = event.payload["values"]
        self._set_tags(self.run_id, {LINK_TAG + name: value for name, value in related.items()})
        tags = self._client.get_run(self.run_id).data.tags
        if tags.get(_NOTE_TAG, _NOTE).startswith(_NOTE):  # a description that a person wrote is kept
            shared = {name: value for name, value in tags.items() if name.startswith(LINK_TAG)}
            links = (self._link(name, value) for name, value in sorted(shared.items()))
            self._client.set_tag(self.run_id, _NOTE_TAG, _NOTE + ", ".join(links))

    def _link(self, tag: str, value: str) -> str:
        """A link in Markdown to the table of runs that share a tag."""
        page = compat.page(self.experiment_id, shared_tag=(tag, value))
        return f"[{tag.removeprefix(LINK_TAG)} {value[:_SHOWN_CHARACTERS]}]({page})"


_CALLS: dict[str, Callable[..., None]] = {
    "start": MlflowSink._start,
    "params": MlflowSink._send_params,
    "metrics": MlflowSink._send_metrics,
    "tags": MlflowSink._send_tags,
    "artifact": MlflowSink._send_artifact,
    "image": MlflowSink._send_image,
    "checkpoint": MlflowSink._send_checkpoint,
    "model": MlflowSink._send_model,
    "input": MlflowSink._send_input,
    "link": MlflowSink._send_links,
    "finish": MlflowSink._finish,
}
"""The method that sends an event, by its kind; only metrics are sent several events at a time."""


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
