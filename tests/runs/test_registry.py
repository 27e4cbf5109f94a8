"""A trained model as MLflow keeps it: no pickle, asked for a video, the best one aliased."""

from __future__ import annotations

from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import save_file

from svgan_ray.errors import ConfigError, InputError, MlflowError
from svgan_ray.latents.basis import fit_basis
from svgan_ray.runs import Dataset
from svgan_ray.runs.registry import MODEL_TAG, Score, fetch_model, promote, registered_name
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.model import load_model, model_of, save_model
from svgan_ray.temporal.training import new_state
from svgan_ray.video.reading import open_video
from tests.footage import make_weights
from tests.motion import motion, tiny

NAME = registered_name("anna")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights")) / "generator"


def draw(folder: Path, generator: Path, seed: int) -> str:
    """A model with random weights, as training hands it to the run; its hash."""
    basis = fit_basis([motion(300)], 16)
    state = new_state(tiny(seed=seed), basis)
    model = model_of(state, basis.mean.clone(), weights_hash(generator), {"subject": "anna"})
    save_model(model, folder / "motion")
    (folder / "generator").symlink_to(generator, target_is_directory=True)
    save_file({"ben": motion(10, 5).mean(0)}, folder / "subjects.safetensors")
    return weights_hash(folder / "motion")


@pytest.fixture
def registered(open_training_run, generator: Path, tmp_path: Path) -> list[str]:
    """Hashes of two registered models."""
    hashes = []
    for seed in range(2):
        hashes.append(draw(tmp_path / f"model-{seed}", generator, seed))
        with open_training_run(f"run-{seed}") as run:
            for _ in range(2):  # as a delivery that is repeated after a kill
                run.log_model(tmp_path / f"model-{seed}", NAME, hashes[-1])
    return hashes


def frames_of(video: bytes, folder: Path) -> np.ndarray:
    (folder / "video.mp4").write_bytes(video)
    with open_video(folder / "video.mp4") as opened:
        return opened.read(0, opened.info.frame_count)


def test_what_another_run_measures_of_a_model_is_the_models(registered, open_training_run, uri):
    with open_training_run("evaluate") as run:
        run.log_metrics({"frechet_motion": 4.0}, 0, registered[0], Dataset("anna", "a" * 64))
        run.log_metrics({"frechet_motion": 3.0}, 0, registered[1], Dataset("anna", "a" * 64))
        run.log_metrics({"frechet_motion": 1.0}, 0, "0" * 64, Dataset("anna", "a" * 64))
    order = [{"field_name": "metrics.frechet_motion", "dataset_name": "anna"}]
    best, other = MlflowClient(uri).search_logged_models([run.experiment_id], order_by=order)
    assert best.tags[MODEL_TAG] == registered[1] and other.tags[MODEL_TAG] == registered[0]
    assert [(one.value, one.run_id) for one in best.metrics] == [(3.0, run.run_id)]


def test_a_registered_model_gives_videos_and_holds_no_pickle(registered, uri, tmp_path):
    client = MlflowClient(uri)
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert sorted(str(version.version) for version in versions) == ["1", "2"]
    place = client.get_model_version_download_uri(NAME, "1")
    files = [path for path in Path(place.removeprefix("file://")).rglob("*") if path.is_file()]
    assert {"MLmodel", "motion_pyfunc.py", "input_example.json"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".bin")]

    model = mlflow.pyfunc.load_model(place)
    assert model.metadata.signature.inputs.input_names() == ["seed", "seconds", "subject"]
    own_row = {"seed": 7, "seconds": 1.0}
    rows = [own_row, {**own_row, "subject": "ben"}, {"seed": 8, "seconds": 0.2}]
    videos = model.predict(pd.DataFrame(rows))["video"]
    own, moved, other = (frames_of(video, tmp_path) for video in videos)
    assert own.shape == moved.shape == (25, 32, 32, 3) and len(other) == 5
    assert not np.array_equal(own, moved) and not np.array_equal(own[:5], other)
    assert model.predict(pd.DataFrame([own_row]))["video"][0] == videos[0]
    with pytest.raises(InputError, match="knows ben"):
        model.predict(pd.DataFrame([{**own_row, "subject": "zoe"}]))
    with pytest.raises(InputError, match="at most 600"):
        model.predict(pd.DataFrame([{"seed": 1, "seconds": 1e6}]))


def test_champion_moves_only_where_the_same_footage_is_nearer(registered, uri):
    first, second = registered
    client = MlflowClient(uri)

    def champion() -> str:
        return str(client.get_model_version_by_alias(NAME, "champion").version)

    assert "is the champion now" in promote(uri, NAME, first, Score(2.0, "footage"))
    assert champion() == "1"
    for worse in (3.0, 2.0, float("nan")):
        assert "stays" in promote(uri, NAME, second, Score(worse, "footage"))
    assert "not measured on this footage" in promote(uri, NAME, second, Score(1.0, "other"))
    assert champion() == "1"
    assert "is the champion now" in promote(uri, NAME, second, Score(1.5, "footage"))
    assert champion() == "2"
    assert "not registered" in promote(uri, NAME, "0" * 64, Score(0.0, "footage"))
    with pytest.raises(MlflowError, match="did not answer"):
        promote("http://127.0.0.1:9", NAME, first, Score(1.0, "footage"))


def test_jobs_take_a_model_from_the_registry(registered, uri, tmp_path):
    promote(uri, NAME, registered[1], Score(1.0, "footage"))
    for model in (f"models:/{NAME}@champion", f"models:/{NAME}/2"):
        (tmp_path / "fetched").mkdir(exist_ok=True)
        fetched = fetch_model(uri, model, tmp_path / "fetched")
        assert weights_hash(fetched) == registered[1]
        assert torch.equal(load_model(fetched).w_ref, load_model(tmp_path / "model-1" / "motion").w_ref)
    for wrong in (f"models:/{NAME}@none", f"models:/{NAME}/9", f"models:/{NAME}", "models:/a/b"):
        with pytest.raises(ConfigError, match="--model models:/"):
            fetch_model(uri, wrong, tmp_path)
