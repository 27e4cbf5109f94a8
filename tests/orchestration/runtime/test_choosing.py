"""Which files `--videos` takes, whom they show, and what is said of the others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.runtime.choosing import Footage, choose
from tests.footage import make_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "one.mp4", 4, seed=1)


def put(video: Path, *paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, path)


def subjects(footage: Footage) -> list[str]:
    return [source.subject for source in footage.sources]


def test_hidden_folders_are_not_taken_and_links_are_followed_once(tmp_path: Path, video: Path) -> None:
    footage = tmp_path / "footage"
    put(
        video,
        footage / "a.mp4",
        footage / ".trash" / "b.mp4",
        footage / ".c.mp4",
        tmp_path / "else" / "d.mp4",
    )
    (footage / "linked").symlink_to(tmp_path / "else")
    (footage / "twice").symlink_to(tmp_path / "else")
    (footage / "loop").symlink_to(footage)
    (footage / "notes.txt").touch()
    chosen = choose([str(footage)])
    assert [source.name for source in chosen.sources] == ["a", "d"]
    assert {(Path(item.place).name, item.reason) for item in chosen.passed_over} == {
        (".trash", "hidden"),
        (".c.mp4", "hidden"),
        ("twice", "a link to a folder that was seen already"),
        ("loop", "a link to a folder that was seen already"),
        ("notes.txt", "no video"),
    }


def test_equal_names_in_different_folders_take_the_folders_names(tmp_path: Path, video: Path) -> None:
    put(
        video,
        tmp_path / "anna/001.mp4",
        tmp_path / "anna/002.mp4",
        tmp_path / "ben/001.mp4",
        tmp_path / "cat.mp4",
    )
    chosen = choose([str(tmp_path)])
    assert subjects(chosen) == ["anna", "anna", "ben", "cat"]
    assert "their folders name the subjects anna, ben" in chosen.remarks()[0]


def test_folders_of_equal_names_are_told_apart_by_what_is_above_them(tmp_path: Path, video: Path) -> None:
    put(video, tmp_path / "x/day1/1.mp4", tmp_path / "y/day1/1.mp4")
    assert subjects(choose([str(tmp_path)])) == ["x-day1", "y-day1"]


def test_two_folders_are_never_merged_without_a_word(tmp_path: Path, video: Path) -> None:
    put(video, tmp_path / "p/anna.mp4", tmp_path / "q/anna/1.mp4", tmp_path / "q/ben/1.mp4")
    chosen = choose([str(tmp_path)])
    assert subjects(chosen) == ["anna", "anna", "ben"]
    assert any(remark.startswith("anna is assumed to be one person in ") for remark in chosen.remarks())


def test_names_that_no_record_can_keep_are_passed_over_or_refused(tmp_path: Path, video: Path) -> None:
    folder = tmp_path / "odd"
    put(video, folder / "a.mp4", folder / "line\nbreak.mp4")
    shutil.copy(video, os.fsencode(folder) + b"/caf\xe9.mp4")
    chosen = choose([str(folder)])
    assert [source.name for source in chosen.sources] == ["a"]
    assert len(chosen.passed_over) == 2 and all("rename it" in item.reason for item in chosen.passed_over)
    "".join(item.place for item in chosen.passed_over).encode()
    with pytest.raises(ConfigError, match="no UTF-8: rename it"):
        choose([os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")])


def test_the_longest_names_and_brackets_are_taken(tmp_path: Path, video: Path) -> None:
    put(video, tmp_path / ("ü" * 123 + "a.mp4"), tmp_path / "talk [dQw4w9WgXcQ].mp4")
    assert len(choose([str(tmp_path)]).sources) == 2
    assert len(choose([str(tmp_path / "talk [dQw4w9WgXcQ].mp4")]).sources) == 1
