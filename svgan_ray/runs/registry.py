"""Trained models in MLflow's registry: logged to their run, registered by name, the best one with an alias.

A logged model is a folder of three parts: `motion` (a trained model's folder), `generator` (its synthesis
network) and `subjects.safetensors` (mean W+ [n, d] of the subjects that can move).
"""

from __future__ import annotations

import re
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from svgan_ray import __version__
from svgan_ray.errors import ConfigError, MlflowError
from svgan_ray.runs.client import connect, database_path, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

__all__ = ["CHAMPION", "REGISTRY", "RunOf", "Score", "fetch_model", "log_model", "promote", "registered_name"]

REGISTRY = "models:/"
CHAMPION = "champion"
MODEL_TAG = "svgan_ray.model_sha256"
DISTANCE_TAG, FOOTAGE_TAG = "svgan_ray.evaluation.distance", "svgan_ray.evaluation.footage"
PARTS = {"motion": "motion", "generator": "generator", "subjects": "subjects.safetensors"}

_CODE = Path(__file__).with_name("motion_pyfunc.py")
_EXAMPLE = {"seed": 7, "seconds": 1.0}


def registered_name(subject: str) -> str:
    """The name in the registry of the models of a subject's motion."""
    return "motion-" + re.sub(r"[^\w\-. ]", "_", subject)


@dataclass(frozen=True)
class RunOf:
    """The run that a model came from, by MLflow's ids."""

    experiment_id: str
    run_id: str


def log_model(client: MlflowClient, run: RunOf, folder: Path, name: str, sha256: str) -> None:
    """Log the model in `folder` to a run and register it as `name`; a repeat changes nothing."""
    from mlflow.entities import LoggedModelOutput

    tags = {MODEL_TAG: sha256}
    logged = client.search_logged_models([run.experiment_id], f"tags.`{MODEL_TAG}` = '{sha256}'")
    model = next((one for one in logged if one.source_run_id == run.run_id), None)
    if model is None:
        model = client.create_logged_model(run.experiment_id, name, run.run_id, tags)
    if model.status != "READY":
        with tempfile.TemporaryDirectory() as temporary:
            _write(Path(temporary, "model"), folder, run.run_id, model.model_id)
            client.log_model_artifacts(model.model_id, str(Path(temporary, "model")))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, step=0)])
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    if not _versions(client, name, sha256):
        source = model.artifact_location
        client.create_model_version(name, source, run.run_id, tags, model_id=model.model_id)


@dataclass(frozen=True)
class Score:
    """The score by which models of one name are compared on footage of one digest; smaller is better."""

    distance: float
    footage: str


def promote(uri: str, name: str, sha256: str, score: Score) -> str:
    """Record a registered model's score; it becomes champion if it beats the champion on equal footage.

    Returns a sentence on what was done. Raises MlflowError if the server cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    database = database_path(uri)
    if database is not None and not database.exists():
        return f"there is no {database}: no alias moved"
    try:
        return _promote(connect(uri), name, sha256, score)
    except (MlflowException, OSError) as error:
        raise MlflowError(f"{without_password(uri)} did not answer ({error})") from error


def _promote(client: MlflowClient, name: str, sha256: str, score: Score) -> str:
    versions = _versions(client, name, sha256)
    if not versions:
        return f"this model is not registered as {name}: no alias moved"
    version = versions[0].version
    client.set_model_version_tag(name, version, DISTANCE_TAG, repr(score.distance))
    client.set_model_version_tag(name, version, FOOTAGE_TAG, score.footage)
    champion = _champion(client, name)
    if champion is not None and champion.version == version:
        return f"{name} version {version} is the {CHAMPION}"
    if champion is not None:
        if champion.tags.get(FOOTAGE_TAG) != score.footage:
            return f"the {CHAMPION}, version {champion.version}, was not measured on this footage: it stays"
        if not score.distance < float(champion.tags[DISTANCE_TAG]):
            return f"the {CHAMPION}, version {champion.version}, is better or as good: it stays"
    client.set_registered_model_alias(name, CHAMPION, version)
    return f"{name} version {version} is the {CHAMPION} now"


def fetch_model(uri: str, model: str, folder: Path) -> Path:
    """Download the motion model of `models:/NAME@ALIAS` or `models:/NAME/VERSION`; returns its folder.

    Raises ConfigError if there is no such model.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    name, alias, version = _parse(model)
    try:
        if alias:
            version = client.get_model_version_by_alias(name, alias).version
        found = client.get_model_version(name, version)
    except MlflowException as error:
        raise ConfigError(f"--model {model}: the registry holds no such model ({error.message})") from error
    source = client.get_model_version_download_uri(found.name, found.version)
    part = f"{source}/artifacts/{PARTS['motion']}"
    return Path(download_artifacts(artifact_uri=part, dst_path=str(folder), tracking_uri=uri))


def _parse(model: str) -> tuple[str, str, str]:
    """The name, alias and version; either alias or version is empty."""
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", model)
    if match is None:
        raise ConfigError(f"--model {model}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, version = match.groups(default="")
    return name, alias, version


def _versions(client: MlflowClient, name: str, sha256: str) -> list[ModelVersion]:
    found = client.search_model_versions(f"name = '{name}'")
    return [version for version in found if version.tags.get(MODEL_TAG) == sha256]


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(name).aliases
    return client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None


def _write(target: Path, parts: Path, run_id: str, model_id: str) -> None:
    """An MLflow model: this package's code file beside safetensors and JSON."""
    import pandas as pd
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns that integers cannot be missing; here they never are
        save_model(
            path=str(target),
            python_model=str(_CODE),
            artifacts={name: str(parts / file) for name, file in PARTS.items()},
            signature=_signature(),
            input_example=pd.DataFrame([_EXAMPLE]),
            pip_requirements=_requirements(),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    subject = ColSpec("string", "subject", required=False)
    inputs = Schema([ColSpec("long", "seed"), ColSpec("double", "seconds"), subject])
    return ModelSignature(inputs, Schema([ColSpec("binary", "video")]))


def _requirements() -> list[str]:
    installed = {name: version(name) for name in ("mlflow", "torch", "safetensors", "numpy", "av", "pandas")}
    return [f"svgan-ray=={__version__}", *(f"{name}=={number}" for name, number in installed.items())]
