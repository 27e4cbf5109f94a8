"""The demo asks the jobs for what it promises, in one folder, and says what own footage can expect."""

from __future__ import annotations

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
    assert plan.train.subject == plan.tune.subject == "subject-1"
    assert plan.tune.trials == 6
    assert [(s.subject, s.seconds) for s in plan.samples] == [(None, 10.0)] * 4
    assert [(s.subject, s.seconds) for s in plan.transfers] == [("subject-2", 10.0)] * 2
    assert {s.model for s in (*plan.samples, *plan.transfers)} == {plan.train.model}
    assert plan.train.inversion == plan.tune.inversion == plan.inversion_id


@pytest.mark.parametrize("with_own", [False, True])
def test_results_lie_in_one_folder(tmp_path: Path, own: Path, with_own: bool) -> None:
    folder = tmp_path / "demo"
    plan = plan_of(DemoConfig(folder=str(folder), video=str(own) if with_own else None))
    places = [plan.invert.store, plan.train.store, plan.train.model, plan.train.checkpoints]
    places += [plan.tune.store, plan.tune.model, plan.tune.study_folder]
    places += [plan.tune.search_storage.removeprefix("sqlite:///"), plan.evaluate.out]
    places += [place for s in (*plan.samples, *plan.transfers) for place in (s.out, s.model, s.store)]
    assert all(Path(place).is_relative_to(plan.folder) for place in places)
    assert plan.folder.is_relative_to(folder)
    assert not folder.exists()  # planning makes nothing


def test_without_a_second_rendered_subject_one_of_the_demo_world_is_moved(tmp_path: Path) -> None:
    plan = plan_of(DemoConfig(folder=str(tmp_path), subjects=1))
    assert {s.subject for s in plan.transfers} == {"demo:2"}


def test_own_footage_takes_the_place_of_the_rendered(tmp_path: Path, own: Path) -> None:
    plan = plan_of(DemoConfig(folder=str(tmp_path / "demo"), video=str(own)))
    assert plan.videos == (own,)
    assert plan.subject == "Anna talks"
    assert plan.invert.faces == "aligned"
    assert plan.folder == tmp_path / "demo" / "own-Anna talks"


def test_landmarks_beside_own_footage_are_used_and_remarked(tmp_path: Path, own: Path) -> None:
    config = DemoConfig(folder=str(tmp_path / "demo"), video=str(own))
    assert "taken as aligned" in plan_of(config).remarks[-1]
    sidecar_path(own).touch()
    plan = plan_of(config)
    assert plan.invert.faces == "sidecar"
    assert "says where the face is" in plan.remarks[-1]
    assert "cannot draw a photographed face" in plan.remarks[0]
    assert plan_of(DemoConfig(folder=str(tmp_path))).remarks == ()


def test_own_footage_that_changed_is_other_settings(tmp_path: Path, own: Path) -> None:
    config = DemoConfig(folder=str(tmp_path / "demo"), video=str(own))
    before = plan_of(config).settings
    assert plan_of(config).settings == before
    own.write_bytes(b"recorded again")
    assert plan_of(config).settings != before


def test_missing_own_footage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--video nowhere\.mp4: no such file"):
        plan_of(DemoConfig(folder=str(tmp_path), video="nowhere.mp4"))
