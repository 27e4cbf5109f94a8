"""Files, folders, studies, subjects and models of any name go through plan, dry run and tables."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svgan_ray.config import InvertConfig, TrainConfig, TuneConfig
from svgan_ray.orchestration.invert.job import plan as plan_inversion
from svgan_ray.orchestration.runtime.command_line import run_job
from svgan_ray.orchestration.runtime.terminal import console, printable
from svgan_ray.orchestration.store_tool.views import show_view
from svgan_ray.orchestration.train.plan import plan_training
from svgan_ray.orchestration.tune.plan import plan_study
from svgan_ray.store import open_store
from svgan_ray.stylegan.weights import weights_folders, weights_hash
from tests.footage import make_video
from tests.motion import INVERSION, motion, put_clip, tiny

LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/")
NAMES = st.text(LETTERS, min_size=1, max_size=60).filter(
    lambda name: (
        name.strip()
        and not name.startswith((".", "-", "~"))
        and "$" not in name
        and len(name.encode()) <= 200
    )
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "one.mp4", 4, seed=1)


@contextlib.contextmanager
def folder_of_its_own() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def shown(*things: object) -> str:
    screen = console()
    screen.width = 2000
    with screen.capture() as capture:
        screen.print(*things)
    return capture.get()


def squeezed(text: str) -> str:
    """The text without white space, which tables wrap at and pad with."""
    return "".join(text.split())


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folder=NAMES, name=NAMES)
def test_footage_of_any_name_is_planned(video: Path, weights: Path, folder: str, name: str) -> None:
    with folder_of_its_own() as place:
        path = place / folder / f"{name}.mp4"
        path.parent.mkdir()
        shutil.copy(video, path)
        config = InvertConfig(videos=(str(path.parent),), weights=str(weights), faces="aligned")
        plan = plan_inversion(config)
        assert [source.uri for source in plan.todo] == [str(path)]
        assert squeezed(printable(str(path))) in squeezed(shown(plan))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(subject=NAMES, other=NAMES, model=NAMES, study=NAMES)
def test_subjects_models_and_studies_of_any_name_are_planned(
    weights: Path, subject: str, other: str, model: str, study: str
) -> None:
    with folder_of_its_own():
        store = open_store("store", create=True)
        generator = weights_hash(weights_folders(weights)[0])
        for seed, shows in enumerate({subject, other}):
            put_clip(store, shows, motion(60, seed), generator)
        common = {"subject": subject, "weights": str(weights), "temporal": tiny(), "model": f"models/{model}"}
        training = plan_training(TrainConfig(**common))
        others = plan_training(TrainConfig(**{**common, "subject": other}))
        tuning = plan_study(TuneConfig(**common, study=study))
        assert (training.job.snapshot.name == others.job.snapshot.name) == (subject == other)
        for plan, names in ((training, (subject, model)), (tuning, (subject, model, study))):
            text = squeezed(shown(plan))
            assert all(squeezed(name) in text for name in names)
        assert squeezed(subject) in squeezed(shown(show_view(store, INVERSION)))


def test_a_dry_run_prints_any_name_on_any_terminal(
    weights: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_of_its_own() as place:
        (place / "odd[").mkdir()
        shutil.copy(video, place / "odd[/x] 李娜 :smile:.mp4")
        narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr("sys.stdout", narrow)
        flags = ["--videos", str(place), "--weights", str(weights), "--faces", "aligned", "--dry-run"]
        assert run_job(InvertConfig, lambda config: pytest.fail("acted"), plan_inversion, flags) == 0
        narrow.flush()
        assert b"odd[/x]" in narrow.buffer.getvalue() and b":smile:" in narrow.buffer.getvalue()
