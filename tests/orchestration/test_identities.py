"""Ids that trainings, studies and inversions are found again by: equal settings give the same ids for ever.

The constants were computed once. Where one of these tests fails, trainings and studies that people have begun
would begin anew.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from svgan_ray.config import InvertConfig, TrainConfig, TuneConfig
from svgan_ray.orchestration.invert.plan import inversion_of
from svgan_ray.orchestration.train.plan import plan_training
from svgan_ray.orchestration.tune.plan import StudyPlan
from svgan_ray.store import Snapshot, SnapshotClip, open_store
from svgan_ray.store.keys import content_id
from svgan_ray.stylegan.weights import weights_folders, weights_hash
from svgan_ray.temporal.recipes import RECIPES

_CLIP = SnapshotClip("c" * 32, "anna", 600, 25.0, "d" * 64)


def snapshot() -> Snapshot:
    generator = weights_hash(weights_folders("demo")[0])
    return Snapshot("anna", "e" * 32, generator, 14, 64, (_CLIP,), {"subject": "anna"})


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("demo", "0a432d0eca982835b349dd8c6834f729"),
        ("paper", "1c35223e13c798eec4dbbc6c3f73973b"),
        ("faces_1024", "54e4c6d29f662ad56b70fd7dab848919"),
    ],
)
def test_a_training_keeps_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("store", create=True).put_snapshot(snapshot())
    temporal = dataclasses.replace(RECIPES[recipe](), steps=7, seed=3)
    config = TrainConfig(snapshot="anna", temporal=temporal)
    assert plan_training(config, put=False).job.id == expected


@pytest.mark.parametrize(
    ("pareto", "expected"),
    [(False, "tune-f3e32ccdb322a1b697ad0dbd72daf332"), (True, "tune-a7d918a492956d938759b67b4b5b7f44")],
)
def test_a_study_keeps_its_identity(pareto: bool, expected: str) -> None:
    config = TuneConfig(subject="anna", trials=4, rungs=3, seed=5, pareto=pareto)
    plan = StudyPlan(config, "/store", snapshot(), "/runs/tune", "sqlite:////optuna.db", "/model", "/preset")
    assert plan.identity == expected


def test_an_inversion_keeps_its_ids() -> None:
    job = inversion_of(InvertConfig(refine_steps=5, precision="bfloat16"), "/store")
    assert job.tracking_id == "300f9566beb20822d02a5af775e96fe1"
    assert job.inversion_id == "379a0ca154bcb494e8451c221b88ee97"


def test_recipes_keep_their_content() -> None:
    assert (
        content_id({name: RECIPES[name]().to_dict() for name in ("demo", "paper", "faces_1024")})
        == "ff8564e1e8f55d9fe701074c0b8dff21"
    )
