"""The demo asks the jobs for what it promises, inside one folder, and says what somebody's own footage can expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.config import DemoConfig, flatten
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.demo.plan import plan_of, remarks_on
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


def test_results_lie_in_one_folder(tmp_path: Path, own: Path) -> None:
    for video in (None, str(own)):
        folder = tmp_path / "demo"
        plan = plan_of(DemoConfig(folder=str(folder), video=video))
        configs = (plan.invert, plan.train, plan.tune, plan.evaluate, *plan.samples, *plan.transfers)
        settings = [value for config in configs for value in flatten(config).values()]
        paths = [value.removeprefix("sqlite:///") for value in settings if str(value).count("/") > 1]
        assert len(paths) > 10
        assert all(path.startswith(str(folder)) for path in paths)
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
    assert "taken as aligned" in remarks_on(config)[-1]
    sidecar_path(own).touch()
    assert plan_of(config).invert.faces == "sidecar"
    assert "says where the face is" in remarks_on(config)[-1]
    assert "cannot draw a photographed face" in remarks_on(config)[0]
    assert remarks_on(DemoConfig()) == []


def test_own_footage_that_changed_is_other_settings(tmp_path: Path, own: Path) -> None:
    config = DemoConfig(folder=str(tmp_path / "demo"), video=str(own))
    before = plan_of(config).settings
    assert plan_of(config).settings == before
    own.write_bytes(b"recorded again")
    assert plan_of(config).settings != before


def test_missing_own_footage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--video nowhere\.mp4: no such file"):
        plan_of(DemoConfig(folder=str(tmp_path), video="nowhere.mp4"))
