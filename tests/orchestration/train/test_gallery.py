"""The page of a training as a person sees it in a browser."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from svgan_ray.config import DataChoice
from svgan_ray.errors import DataError
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.gallery import GALLERY
from svgan_ray.orchestration.train.validation import Validator, require_measurable
from svgan_ray.report.page import write_page
from svgan_ray.store.weights import put_weights
from svgan_ray.temporal.checkpoints import save_checkpoint
from svgan_ray.temporal.training import new_state
from tests.browser import media_state, open_browser, screenshot
from tests.motion import make_store, tiny

PICTURES = ["samples", "motion trajectories", "power spectra", "drift within a minute", "basis spectrum"]


class RecordedRun:
    """Keeps what the validation tells its run."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.images: list[tuple[str, int, np.ndarray[Any, Any]]] = []
        self.metrics: dict[str, float] = {}

    def log_file(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def log_image(self, image: np.ndarray[Any, Any], key: str, step: int) -> None:
        self.images.append((key, step, image))

    def log_metrics(self, metrics: dict[str, float], step: int, *_: object) -> None:
        self.metrics = metrics

    def settle(self) -> None: ...


class Checkpoint:
    """A folder, as Ray hands it out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def as_directory(self) -> Any:

        return nullcontext(str(self.folder))


def validator(tmp_path: Path, weights: Path, frames: int) -> tuple[Validator, RecordedRun]:
    """Of a model that was not trained, on clips of so many frames."""
    store = make_store(tmp_path / "store", weights, clips=2, frames=frames)
    sha256 = put_weights(store, weights / "generator")
    snapshot = resolve_snapshot(store, DataChoice(subject="subject-1"), sha256)
    data = training_set(store, snapshot, tiny())
    save_checkpoint(new_state(tiny(), data.basis), tmp_path / "checkpoint")
    job = SimpleNamespace(
        store=store.uri,
        snapshot=snapshot,
        config=tiny(),
        generator_sha256=sha256,
        sample_seconds=2.0,
        folder=str(tmp_path / "run"),
    )
    run = RecordedRun()
    if frames < 60:
        with pytest.raises(DataError):
            require_measurable(data, 25.0)
    return Validator(job, run), run  # type: ignore[arg-type]


def validate(tmp_path: Path, weights: Path, frames: int) -> RecordedRun:
    validator_of_run, run = validator(tmp_path, weights, frames)
    validator_of_run(Checkpoint(tmp_path / "checkpoint"))  # type: ignore[arg-type]
    return run


@pytest.mark.cluster
def test_the_gallery_holds_all_that_it_shows_and_its_video_plays(tmp_path: Path, weights: Path) -> None:
    run = validate(tmp_path, weights, frames=600)
    document = run.files[GALLERY].decode()
    assert not re.search(r'(src|href)="(?!data:|#)', document), "nothing outside the page"
    assert [(name, step) for name, step, _ in run.images] == [(name, 0) for name in PICTURES]
    assert {"fidelity", "drift"} <= run.metrics.keys()

    write_page(tmp_path / "gallery.html", document)  # type: ignore[arg-type]
    with open_browser() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "gallery.html").as_uri())
        assert media_state(page) >= 2
        assert page.evaluate("document.querySelector('video').videoWidth") == 4 * 32
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        headings = page.locator("h2").all_inner_texts()
        assert headings[1:] == [
            "Film strip",
            "Motion trajectories",
            "Power spectra",
            "Drift within a minute",
            "Basis spectrum",
            "Scores",
        ]
        assert page.locator("svg").count() == 4 + 4 + 2 + 2
        for svg in page.locator("svg").all():  # the line of a legend is flat, which counts as invisible
            assert any(curve.is_visible() for curve in svg.locator('path[style*="--series"]').all())
        assert page.get_by_role("cell", name="drift", exact=True).count() == 1
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        screenshot(page, tmp_path / "gallery.png")


def test_pictures_begin_before_the_first_step(tmp_path: Path, weights: Path) -> None:
    validator_of_run, run = validator(tmp_path, weights, frames=100)
    validator_of_run.show_beginning()
    assert [(name, step) for name, step, _ in run.images] == [(name, 0) for name in PICTURES]
    for _, _, picture in run.images[1:]:
        assert picture.shape in ((720, 560, 3), (720, 1120, 3))
        blue, red = picture[..., 2].astype(int), picture[..., 0].astype(int)
        assert (blue - red > 80).any() and (picture == 255).mean() > 0.5, "a line on white ground"
    assert run.files == {} and run.metrics == {}


def test_footage_too_short_to_be_measured_is_shown(tmp_path: Path, weights: Path) -> None:
    run = validate(tmp_path, weights, frames=40)
    assert run.metrics == {} and "too short to be measured" in run.files[GALLERY].decode()
