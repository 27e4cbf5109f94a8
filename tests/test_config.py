"""Settings: flags over experiment.toml over defaults, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svgan_ray.config import InvertConfig, ReplayConfig, TrainConfig, TuneConfig, flatten
from svgan_ray.errors import ConfigError
from svgan_ray.experiment_file import SECTIONS, ExperimentFile, load_experiment_file
from svgan_ray.ranges import NumericField, numeric_fields
from svgan_ray.temporal.recipes import RECIPES, demo, paper

ROOT = Path(__file__).parents[1]


def experiment(tmp_path: Path, text: str) -> ExperimentFile:
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    return load_experiment_file(path)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    absent = load_experiment_file(tmp_path / "none.toml")
    for config_type in SECTIONS.values():
        assert absent.config(config_type) == config_type()


def test_shipped_experiment_is_the_demos_and_fits_every_job() -> None:
    shipped = load_experiment_file(ROOT / "experiment.toml")
    assert shipped.config(InvertConfig).videos == ("demo",)
    assert shipped.config(TuneConfig).temporal.steps < demo().steps
    for config_type in SECTIONS.values():
        shipped.config(config_type)


def test_shared_keys_reach_every_job_that_has_them_and_sections_win(tmp_path: Path) -> None:
    found = experiment(tmp_path, 'store = "a"\nsubject = "s"\n[train]\nstore = "b"\n')
    assert (found.config(InvertConfig).store, found.config(TrainConfig).store) == ("a", "b")
    assert found.config(TrainConfig).subject == "s"
    assert not hasattr(found.config(SECTIONS["demo"]), "store")


def test_recipe_is_the_base_and_overrides_are_applied_to_it(tmp_path: Path) -> None:
    text = '[train]\nrecipe = "paper"\n[train.temporal]\nsteps = 7\nloss = {angle_penalty = 3}\n'
    temporal = experiment(tmp_path, text).config(TrainConfig).temporal
    assert temporal.steps == 7 and temporal.loss.angle_penalty_weight == 3.0
    expected = dataclasses.replace(
        paper(), steps=7, loss=dataclasses.replace(paper().loss, angle_penalty_weight=3.0)
    )
    assert temporal == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_given_as_a_flag_replaces_the_files(tmp_path: Path, recipe: str) -> None:
    found = experiment(tmp_path, '[train]\nrecipe = "paper"\n').config(TrainConfig, recipe)
    assert (found.recipe, found.temporal) == (recipe, RECIPES[recipe]())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[invert]\nvidoes = ['a']", r"\[invert\] has no key 'vidoes'; did you mean 'videos'"),
        ("[trian]\n", "no section 'trian'; did you mean 'train'"),
        ("stoer = 'a'", "no job has the key 'stoer'; did you mean 'store'"),
        ("[train.temporal]\nstep = 3", r"\[train.temporal\] has no key 'step'; did you mean 'steps'"),
        ("[train.temporal.loss]\nzzz = 3", r"temporal\] loss has no key 'zzz'; known are"),
        ("[train.temporal]\nloss = 3", "loss: expected a table, got 3"),
        ("[invert]\nbatch_frames = 'many'", r"\[invert\] batch_frames: expected int, got 'many'"),
        ("[invert]\nbatch_frames = true", "batch_frames: expected int, got True"),
        ("[invert]\nbatch_frames = 0", r"\[invert\] batch_frames: expected a whole number, 1 or more, got 0"),
        ("[invert]\nmax_failure_fraction = 1.5", "expected a number, from 0 to 1, got 1.5"),
        ("[invert]\nfaces = 'cat'", "faces: expected one of sidecar, aligned, mediapipe, got 'cat'"),
        ("[invert]\npeople = '0'", "people: expected `longest`, `all` or a rank from 1, got '0'"),
        ("[invert]\npeople = 'anna'", "people: expected .* got 'anna'"),
        ("[invert]\nface_model = 'a.task'", "face_model: expected none unless faces is mediapipe"),
        ("[invert]\nvideos = 'a.mp4'", "videos: expected tuple\\[str, ...\\], got 'a.mp4'"),
        ("[invert]\nvideos = [3]", r"videos\[0\]: expected str, got 3"),
        ("[invert]\nvideos = []", "videos: expected at least one"),
        ("[sample]\nseconds = inf", "seconds: expected a number, above 0, got inf"),
        ("[train]\nrecipe = 'papper'", "recipe: expected one of demo, paper, faces_1024, flow, got 'papper'"),
        ("[train.temporal.optimiser]\nbetas = [1]", r"betas: expected tuple\[float, float\], got \[1\]"),
        ("not toml", "not a TOML file"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_remedy(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        experiment(tmp_path, text)
    assert "experiment.toml" in str(caught.value) or "recipe" in text


@given(st.integers(1, 10**6), st.floats(0, 1), st.lists(st.text("abc/", min_size=1), min_size=1, max_size=3))
def test_values_survive_the_file(batch: int, fraction: float, videos: list[str]) -> None:
    sections = {"invert": {"batch_frames": batch, "max_failure_fraction": fraction, "videos": videos}}
    found = ExperimentFile(Path("experiment.toml"), {}, sections).config(InvertConfig)
    assert (found.batch_frames, found.max_failure_fraction, list(found.videos)) == (batch, fraction, videos)


def test_flatten_names_nested_fields_with_dots() -> None:
    flat = flatten(TrainConfig())
    assert flat["temporal.loss.critic_penalty_weight"] == demo().loss.critic_penalty_weight
    assert not any(dataclasses.is_dataclass(value) for value in flat.values())


def test_every_field_is_explained() -> None:
    text = "".join(path.read_text() for path in (ROOT / "svgan_ray" / "config").glob("*.py"))
    for config_type in {owner for cls in SECTIONS.values() for owner in cls.__mro__ if owner is not object}:
        body = text.split(f"class {config_type.__name__}")[1].split("@dataclass")[0]
        for name in config_type.__annotations__:
            after = body.split(f"    {name}:")[1].splitlines()
            assert any(line.strip().startswith('"""') for line in after[1:3]), (
                f"{config_type.__name__}.{name}"
            )


def test_a_number_out_of_its_range_is_named_with_file_key_range_and_value(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text("[train.temporal.loss]\ngradient_penalty_interval = 0\n")
    with pytest.raises(ConfigError) as caught:
        load_experiment_file(path)
    assert str(caught.value) == (
        "experiment.toml: [train.temporal] loss.critic_penalty_interval: "
        "expected a whole number, 1 or more, got 0"
    )


@pytest.mark.parametrize(("text", "bounds"), [("4", (4, 4)), ("1:32", (1, 32)), (None, None)])
def test_actors_are_a_number_or_a_range(text: str | None, bounds: tuple[int, int] | None) -> None:
    assert InvertConfig(actors=text).actor_range == bounds


@pytest.mark.parametrize("text", ["0", "", "3:2", "1:", ":4", "many", "-1", "1:2:3"])
def test_other_actors_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 1:32"):
        InvertConfig(actors=text)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TuneConfig(search_storage="postgresql://anna:planted-password@db/search"),
        lambda: TuneConfig(search_storage="postgresql://anna@db/search?password=planted-password"),
        lambda: ReplayConfig(tracking_uri="https://anna:planted-password@mlflow.example"),
    ],
)
def test_a_password_in_a_setting_is_refused_and_not_repeated(build: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="holds a password, which others would see") as caught:
        build()
    assert "planted" not in str(caught.value)
    TuneConfig(search_storage="postgresql://anna@db:5432/search?passfile=/run/pgpass")


def _numbers(config_type: type[Any], place: str = "") -> Iterator[tuple[str, NumericField]]:
    """The numeric fields of a config and of those nested in it, each with the dotted name of its table."""
    yield from ((place, field) for field in numeric_fields(config_type))
    for name, hint in get_type_hints(config_type).items():
        if dataclasses.is_dataclass(hint):
            yield from _numbers(cast(type[Any], hint), f"{place}.{name}")


NUMBERS = [
    (section, place, field)
    for section, config_type in SECTIONS.items()
    for place, field in _numbers(config_type, section)
]


def _wrong(field: NumericField) -> st.SearchStrategy[int | float]:
    """Numbers that a field must refuse, as TOML can hold them."""
    assert field.range is not None, f"{field.name} declares no range"
    wrong = [st.sampled_from([float("inf"), float("-inf"), float("nan")])]
    if field.whole:
        wrong.append(st.floats(-1e6, 1e6).filter(lambda number: not number.is_integer()))
    if field.range.least > float("-inf"):
        below = st.integers(-(10**6), -1).map(lambda less: int(field.range.least) + less)  # type: ignore[union-attr]
        wrong += [below] if field.range.holds_least else [below, st.just(int(field.range.least))]
    if field.range.most < float("inf"):
        wrong.append(st.integers(1, 10**6).map(lambda more: int(field.range.most) + more))  # type: ignore[union-attr]
    return st.one_of(wrong)


@given(st.sampled_from(NUMBERS).flatmap(lambda found: st.tuples(st.just(found), _wrong(found[2]))))
def test_every_number_that_makes_no_sense_is_refused_with_file_key_range_and_value(
    drawn: tuple[tuple[str, str, NumericField], int | float],
) -> None:
    (section, place, field), value = drawn
    is_tuple = "tuple" in str(get_type_hints(_owner(section, place))[field.name])
    fixed = is_tuple and field.name == "betas"
    shown = [value] * (2 if fixed else 1) if is_tuple else value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "experiment.toml")
        path.write_text(f"[{place}]\n{field.name} = {shown}\n")
        with pytest.raises(ConfigError) as caught:
            load_experiment_file(path)
    message = str(caught.value)
    assert message.startswith(f"experiment.toml: [{section}")
    assert f"{field.name}: expected a " in message and f"{field.range}, got " in message
    read = [value if field.whole else float(value)] * (len(shown) if isinstance(shown, list) else 1)
    assert message.endswith(repr(tuple(read) if is_tuple else read[0]))


def _owner(section: str, place: str) -> Any:
    """The dataclass that a table of the experiment file fills."""
    cls: Any = SECTIONS[section]
    for name in place.split(".")[1:]:
        cls = get_type_hints(cls)[name]
    return cls
