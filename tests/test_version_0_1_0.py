"""What version 0.1.0 left behind is read as it was: a store, a model, a preset, a study with its pickles.

`tests/data/version_0_1_0` was made by the jobs of that version from drawn numbers: a store of two clips, a
study of two trials in /srv/study, its best model and preset.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from svgan_ray.config import TrainConfig
from svgan_ray.experiment_file import ExperimentFile
from svgan_ray.orchestration.runtime.snapshots import named_snapshot
from svgan_ray.orchestration.train.data import resampled_clips
from svgan_ray.orchestration.train.validation import FRECHET
from svgan_ray.orchestration.tune.earlier_versions import find_moved_modules
from svgan_ray.orchestration.tune.plan import SETTINGS, objective_of
from svgan_ray.orchestration.tune.progress import TrialBook
from svgan_ray.orchestration.tune.search import StudySearch
from svgan_ray.store import open_store
from svgan_ray.store.verification import verify
from svgan_ray.temporal.model import load_model
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.sampling import latents_of_samples

DATA = Path(__file__).parent / "data" / "version_0_1_0"
needs_numpy_2 = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 cannot read a pickle that numpy 2 wrote"
)


def test_a_store_is_whole_and_its_snapshot_is_read(tmp_path: Path) -> None:
    store = open_store(shutil.copytree(DATA / "store", tmp_path / "store"))

    assert verify(store, deep=True).problems == []
    snapshot = named_snapshot(store, "subject-1")
    assert [clip.frames for clip in snapshot.clips] == [300, 300]
    assert sum(len(w_plus) for w_plus, _ in resampled_clips(store, snapshot, 25.0)) == 600


def test_a_model_moves() -> None:
    model = load_model(DATA / "model")

    [chunk] = latents_of_samples(model, 0, 30, [0], 1.0, 30, None)
    assert model.card["subject"] == "subject-1"
    assert chunk.shape == (1, 30, *model.w_ref.shape) and bool(torch.isfinite(chunk).all())
    assert chunk[0].std(0).mean() > 1e-3  # it does not stand still


def test_a_model_is_recorded_as_it_was() -> None:
    record = json.loads((DATA / "model" / "model.json").read_text())
    rewritten = TemporalConfig.from_dict(record["config"]).to_dict()

    assert json.dumps(rewritten, indent=2) == json.dumps(record["config"], indent=2)


@needs_numpy_2
def test_the_options_of_a_pickle_have_their_current_names_too() -> None:
    find_moved_modules()
    base = pickle.loads((DATA / "study" / "tuner.pkl").read_bytes())["_run_config"].callbacks[0]._plan.base
    assert isinstance(base, TemporalConfig) and base.latent_space == base.head == "basis"  # type: ignore[attr-defined]
    assert base == TemporalConfig.from_dict(base.to_dict()) == dataclasses.replace(base)


def test_a_preset_is_the_winner_of_its_study() -> None:
    model = load_model(DATA / "model")

    preset = ExperimentFile(Path("none.toml"), {}, {}).config(TrainConfig, preset=str(DATA / "tuned.json"))
    assert preset.temporal.optimiser == model.config.optimiser
    assert preset.temporal.generator == model.config.generator


@needs_numpy_2
def test_a_study_goes_on_with_the_search_and_the_callbacks_that_tune_pickled() -> None:
    find_moved_modules()

    # Ray's own restore does the same; these pickles lie in the repository.
    state = pickle.loads((DATA / "study" / "tuner.pkl").read_bytes())
    [callback] = state["_run_config"].callbacks
    search = state["_tune_config"].search_alg
    assert isinstance(callback, TrialBook) and isinstance(search, StudySearch)
    plan = callback._plan
    assert plan.run.name == "tune demo" and plan.trial_run("abc").parent == plan.identity
    assert (plan.config.trials, plan.config.subject, plan.config.max_error) == (2, None, None)
    assert plan.config.rungs == 4  # which was called `evaluations`
    assert plan.snapshot.digest and plan.settings["trials"] == 2
    assert plan.objectives == (FRECHET,), "it goes on with the objective that it was begun with"
    assert search._space.keywords["base"].window_frames == plan.base.window_frames


def test_the_database_of_a_study_is_loaded(tmp_path: Path) -> None:
    database = shutil.copy(DATA / "study" / "optuna.db", tmp_path)
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")

    study = optuna.load_study(study_name="demo", storage=storage)
    storage.engine.dispose()
    assert objective_of(study) == FRECHET and study.user_attrs[SETTINGS]["objectives"] == [FRECHET]
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 2
