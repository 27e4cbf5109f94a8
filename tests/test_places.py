"""Settings that name a place or a thing: every one is declared, and means what a shell would mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from svgan_ray.config import EvaluateConfig, InvertConfig, SampleConfig, TrainConfig, TuneConfig
from svgan_ray.errors import ConfigError
from svgan_ray.experiment_file import SECTIONS
from svgan_ray.places import Name, Place, declared

FREE_TEXT = {"people", "actors"}
"""Settings that are neither a place nor a name, and are checked by themselves."""


def settings_of(kind: type) -> list[tuple[type[Any], str]]:
    return [
        (cls, name)
        for cls in SECTIONS.values()
        for name, mark in declared(cls).items()
        if isinstance(mark, kind)
    ]


def made(cls: type[Any], name: str, value: str) -> str:
    """The setting as a config holds it."""
    is_tuple = "tuple" in str(get_type_hints(cls)[name])
    others = {"faces": "mediapipe"} if name == "face_model" else {}
    others |= {"refine_steps": 1} if name == "refine_lpips" else {}
    setting = getattr(cls(**{name: (value,) if is_tuple else value}, **others), name)
    return str(setting[0] if is_tuple else setting)


def test_every_setting_that_is_text_is_declared_as_a_place_or_a_name() -> None:
    for cls in SECTIONS.values():
        for field in dataclasses.fields(cls):
            hint = str(get_type_hints(cls)[field.name])
            if "str" in hint and "Literal" not in hint and field.name not in FREE_TEXT:
                assert field.name in declared(cls), f"{cls.__name__}.{field.name}: declare a Place or a Name"


@pytest.mark.parametrize(("cls", "name"), settings_of(Place))
def test_home_and_variables_mean_the_same_in_every_place(
    cls: type[Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("BUCKET", "motion")
    assert made(cls, name, "~/x") == "/home/anna/x"
    assert made(cls, name, "s3://$BUCKET/${BUCKET}/x") == "s3://motion/motion/x"
    assert made(cls, name, "a/~/b") == "a/~/b"
    with pytest.raises(ConfigError, match=rf"^{name}: the environment variable \$UNSET is not set"):
        made(cls, name, "$UNSET/x")


@pytest.mark.parametrize(("cls", "name"), settings_of(Place) + settings_of(Name))
@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\x1b[2Jb", "caf\udce9"])
def test_what_can_name_nothing_is_refused(cls: type[Any], name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected "):
        made(cls, name, value)


def test_a_path_that_exists_as_it_is_written_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for odd in ("~", "$HOME"):
        Path(odd).mkdir()
        assert TrainConfig(store=odd).store == odd


def test_the_file_of_a_database_is_a_place_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert (
        TuneConfig(search_storage="sqlite:///~/optuna.db").search_storage == "sqlite:////home/anna/optuna.db"
    )


def test_defaults_are_what_they_say() -> None:
    assert (InvertConfig().store, SampleConfig().out, EvaluateConfig().weights) == (
        "store",
        "samples/sample.mp4",
        "demo",
    )
