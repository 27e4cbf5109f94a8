"""The demo asks the jobs for what it promises, in one folder, and says what own footage can expect."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from svgan_ray.config import DemoConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.demo.plan import plan_of
from svgan_ray.video.landmarks import sidecar_path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "Anna talks.mp4"
    path.write_bytes(b"not looked into yet")
    return path


def test_one_subject_is_learned_and_another_one_moved(tmp_path: Path) -> None:
    plan = plan_of(DemoConfig(folder=str(tmp_path / "demo")))
    assert [v.name for v in plan.videos] == ["subject-1.mp4", "subject-2.mp4", "subject-3.mp4"]
    assert plan.tune is not None and plan.fit is None
    assert plan.train.subject == plan.tune.subject == "subject-1"
    assert plan.tune.trials == 6
    assert [(s.subject, s.seconds) for s in plan.samples] == [(None, 10.0)] * 4
    assert [(s.subject, s.seconds) for s in plan.transfers] == [("subject-2", 10.0)] * 2
    assert {s.model for s in (*plan.samples, *plan.transfers)} == {plan.train.model}
    assert plan.train.inversion == plan.tune.inversion == plan.inversion_id


@pytest.mark.parametrize("with_own", [False, True])
def test_results_lie_in_one_folder(tmp_path: Path, own: Path, with_own: bool) -> None:
    folder = tmp_path / "demo"
    plan = plan_of(DemoConfig(folder=str(folder), video=str(own) if with_own else None, faces="aligned"))
    places = [plan.invert.store, plan.train.store, plan.train.model, plan.train.checkpoints]
    places.append(plan.evaluate.out)
    if plan.tune is not None:
        places += [plan.tune.store, plan.tune.model, plan.tune.study_folder]
        places.append(plan.tune.search_storage.removeprefix("sqlite:///"))
    if plan.fit is not None:
        places += [plan.fit.store, plan.fit.out, plan.fit.checkpoints]
    places += [place for s in (*plan.samples, *plan.transfers) for place in (s.out, s.model, s.store)]
    assert all(Path(place).is_relative_to(plan.folder) for place in places)
    assert plan.folder.is_relative_to(folder)
    assert not folder.exists()  # planning makes nothing


def test_without_a_second_rendered_subject_one_of_the_demo_world_is_moved(tmp_path: Path) -> None:
    plan = plan_of(DemoConfig(folder=str(tmp_path), subjects=1))
    assert {s.subject for s in plan.transfers} == {"demo:2"}


def test_weights_are_fitted_to_own_footage_and_used_by_all_that_follows(tmp_path: Path, own: Path) -> None:
    plan = plan_of(DemoConfig(folder=str(tmp_path / "demo"), video=str(own), faces="aligned"))
    assert plan.videos == (own,) and plan.subject == "Anna talks"
    assert plan.folder == tmp_path / "demo" / "own-Anna talks"
    assert plan.track is not None and plan.fit is not None
    assert (plan.track.faces, plan.track.until, plan.invert.until) == ("aligned", "tracks", "latents")
    assert plan.fit.subjects == ("Anna talks",)
    users = [plan.invert, plan.train, plan.evaluate, *plan.samples]
    assert {user.weights for user in users} == {plan.fit.out} == {str(plan.folder / "weights")}
    assert plan.tune is None and not plan.transfers


def test_landmarks_beside_own_footage_are_used(tmp_path: Path, own: Path) -> None:
    sidecar_path(own).touch()
    plan = plan_of(DemoConfig(folder=str(tmp_path / "demo"), video=str(own)))
    assert plan.track is not None and plan.track.faces == plan.invert.faces == "sidecar"


def test_without_mediapipe_it_is_said_before_anything_starts(tmp_path: Path, own: Path) -> None:
    if find_spec("mediapipe") is None:
        with pytest.raises(ConfigError, match=r"mediapipe is not installed.*--faces aligned"):
            plan_of(DemoConfig(folder=str(tmp_path / "demo"), video=str(own)))


def test_own_footage_that_changed_is_other_settings(tmp_path: Path, own: Path) -> None:
    config = DemoConfig(folder=str(tmp_path / "demo"), video=str(own), faces="aligned")
    before = plan_of(config).settings
    assert plan_of(config).settings == before
    own.write_bytes(b"recorded again")
    assert plan_of(config).settings != before


def test_missing_own_footage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--video nowhere\.mp4: no such file"):
        plan_of(DemoConfig(folder=str(tmp_path), video="nowhere.mp4"))


def test_the_subject_that_is_learned_has_most_of_the_footage(tmp_path: Path) -> None:
    plan = plan_of(DemoConfig(folder=str(tmp_path)))
    assert plan.rendered_s == (120, 30, 30)
    assert plan_of(DemoConfig(folder=str(tmp_path / "short"), seconds=8)).rendered_s == (8, 8, 8)
    assert plan_of(DemoConfig(folder=str(tmp_path / "one"), subjects=1)).rendered_s == (120,)
