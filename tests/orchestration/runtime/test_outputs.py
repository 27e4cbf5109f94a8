"""Everything that a job needs at its end is checked before it begins, and by a dry run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from svgan_ray.config import DoctorConfig, SampleConfig, TrainConfig
from svgan_ray.experiment_file import SECTIONS
from svgan_ray.orchestration.runtime.command_line import run_job
from svgan_ray.orchestration.runtime.outputs import check_outputs
from svgan_ray.orchestration.runtime.surroundings import troubles
from svgan_ray.places import Place, declared

WRITTEN = [
    (section, name)
    for section, cls in SECTIONS.items()
    for name, mark in declared(cls).items()
    if isinstance(mark, Place) and mark.use != "input" and section not in ("doctor", "replay")
]

FILES = [(section, name) for section, name in WRITTEN if declared(SECTIONS[section])[name] == Place("file")]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refuse(config: object) -> Any:
    raise AssertionError("the job acted")


def run(section: str, *flags: str) -> int:
    return run_job(SECTIONS[section], refuse, plan=refuse, argv=flags)


@pytest.mark.parametrize("is_dry_run", [False, True])
@pytest.mark.parametrize(("section", "name"), WRITTEN)
def test_a_place_that_cannot_be_written_is_named_before_anything_starts(
    section: str, name: str, is_dry_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    prefix = "sqlite:///" if name == "search_storage" else ""
    flag = f"--{name.replace('_', '-')}"
    for place in ("file/x", "x/" + "n" * 300 + "/y"):
        code = run(section, flag, prefix + place, *(["--dry-run"] if is_dry_run else []))
        error = capsys.readouterr().err
        assert code == 2 and f"error: {flag} {prefix + place}: cannot be written" in error
    assert [path.name for path in Path().iterdir()] == ["file"], "looking leaves nothing behind"


@pytest.mark.parametrize(("section", "name"), FILES)
def test_a_file_to_write_is_no_folder_and_no_address(
    section: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    assert run(section, "--out", "folder") == 2
    assert "--out folder: is a folder; name a file" in capsys.readouterr().err
    assert run(section, "--out", "s3://bucket/x") == 2
    assert "--out s3://bucket/x: expected a local file" in capsys.readouterr().err


def test_several_samples_may_go_to_a_folder_that_is_there() -> None:
    Path("videos").mkdir()
    check_outputs(SampleConfig(out="videos", samples=2))


def test_a_spool_that_cannot_be_written_is_found_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mlspool").touch()
    assert run("sample") == 2
    assert "mlspool in the working directory" in capsys.readouterr().err


def test_what_may_be_written_is_let_through_and_not_made() -> None:
    check_outputs(TrainConfig(model="a/b/c", checkpoints="d/e"))
    check_outputs(DoctorConfig())
    assert not list(Path().iterdir())


def test_a_folder_whose_name_mlflow_misreads_is_found_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("a%20b", "what?"):
        monkeypatch.chdir(tmp_path)
        Path(name).mkdir()
        monkeypatch.chdir(name)
        assert run("evaluate", "--dry-run") == 2
        assert "set MLFLOW_TRACKING_URI" in capsys.readouterr().err
        assert [trouble for trouble in troubles(starts_ray=False) if name in trouble.found]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert not list(troubles(starts_ray=False))


def test_a_temporary_folder_that_is_too_long_for_ray_is_found_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    long = tmp_path / ("t" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    assert run("train", "--dry-run") == 2
    assert "too long for the sockets of Ray; set RAY_TMPDIR" in capsys.readouterr().err
    assert not list(troubles(starts_ray=False))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert not list(troubles(starts_ray=True))
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")
    assert [trouble for trouble in troubles(starts_ray=True) if "cannot be written" in trouble.found]


def test_a_home_that_cannot_be_written_is_found_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("HOME", "/dev/null/home")
    assert run("invert", "--dry-run") == 2
    assert "HOME /dev/null/home: cannot be written" in capsys.readouterr().err
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert not list(troubles(starts_ray=True))
