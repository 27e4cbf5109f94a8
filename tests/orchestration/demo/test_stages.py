"""Stages run once, run again when anything that decides their result changes, and never half count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.demo.stages import Stage, StateFile

SETTINGS = {"subjects": 3, "seconds": 60.0}


def stage(folder: Path, inputs: str = "a") -> Stage:
    return Stage("train", "train on one", inputs, (folder / "model", folder / "out.txt"), work=lambda: "")


def make_outputs(folder: Path) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"12345")
    (folder / "out.txt").write_text("done")


def test_a_finished_stage_is_remembered_by_another_process(tmp_path: Path) -> None:
    make_outputs(tmp_path)
    StateFile(tmp_path, SETTINGS).finish(stage(tmp_path), "20 steps/s", 3.5, 1 << 30)
    record = StateFile(tmp_path, SETTINGS).finished(stage(tmp_path))
    assert record is not None
    assert (record.figure, record.duration_s, record.peak_bytes) == ("20 steps/s", 3.5, 1 << 30)
    assert record.outputs == {"model/weights": 5, "out.txt": 4}


@pytest.mark.parametrize("harm", ["inputs", "missing", "emptied", "cut short", "another file"])
def test_a_stage_counts_as_open_again(tmp_path: Path, harm: str) -> None:
    make_outputs(tmp_path)
    StateFile(tmp_path, SETTINGS).finish(stage(tmp_path), "", 1.0, None)
    if harm == "missing":
        (tmp_path / "out.txt").unlink()
    elif harm == "emptied":
        (tmp_path / "model" / "weights").unlink()
    elif harm == "cut short":
        (tmp_path / "model" / "weights").write_bytes(b"123")
    elif harm == "another file":
        (tmp_path / "model" / "more").write_bytes(b"1")
    inputs = "b" if harm == "inputs" else "a"
    assert StateFile(tmp_path, SETTINGS).finished(stage(tmp_path, inputs)) is None


def test_a_stage_that_left_nothing_is_never_finished(tmp_path: Path) -> None:
    state = StateFile(tmp_path, SETTINGS)
    state.finish(stage(tmp_path), "", 1.0, None)
    make_outputs(tmp_path)
    assert state.finished(stage(tmp_path)) is None


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    make_outputs(tmp_path)
    StateFile(tmp_path, SETTINGS).finish(stage(tmp_path), "", 1.0, None)
    with pytest.raises(ConfigError, match=r"made with subjects 3, seconds 60.0, this one has .*seconds 30.0"):
        StateFile(tmp_path, {**SETTINGS, "seconds": 30.0})


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"schema": 1, "settings": {}, "stages": {"x": 3}}']
)
def test_a_damaged_state_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(ConfigError, match=r"state\.json is no state of a demo"):
        StateFile(tmp_path, {})


def test_a_write_that_dies_leaves_the_state_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_outputs(tmp_path)
    state = StateFile(tmp_path, SETTINGS)
    state.finish(stage(tmp_path), "first", 1.0, None)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        state.finish(stage(tmp_path, "b"), "second", 1.0, None)
    document = json.loads((tmp_path / "state.json").read_text())
    assert document["stages"]["train"]["figure"] == "first"
