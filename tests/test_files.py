"""Files and folders that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.files import write_whole, written_whole, written_whole_folder


def test_a_file_appears_whole_under_the_longest_name_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / ("n" * 251 + ".txt")
    write_whole(path, "first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second" and list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(RuntimeError), written_whole(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_an_older_one_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name in ("first", "second"):
        with written_whole_folder(folder) as partial:
            (partial / name).touch()
            assert folder.exists() == (name == "second")
    assert [path.name for path in folder.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [folder]
    with pytest.raises(RuntimeError), written_whole_folder(folder) as partial:
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [folder]
