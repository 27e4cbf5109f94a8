"""What a person sees in MLflow: a server over PostgreSQL, artifacts on a real S3 server, a browser."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import FrameLocator, Page

from svgan_ray.config import TrainConfig
from svgan_ray.orchestration.runtime.settings import log_settings
from svgan_ray.report.page import embedded_video, page, section, write_page
from svgan_ray.report.plots import Chart, Line, as_html
from svgan_ray.runs import open_run
from svgan_ray.runs.local_run import LocalRun
from svgan_ray.runs.run import Kind
from svgan_ray.runs.server import page_url, serve
from svgan_ray.video.writing import SYNTHETIC_TAGS, write_video
from tests.browser import media_state, open_browser, screenshot
from tests.postgres_server import postgres_server
from tests.s3_servers import make_bucket, rgw_is_missing, rgw_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

EXPERIMENT = "faces"
MODEL = {"model": "anna/step-1000"}
# What is seen in the middle of its upper edge is the picture itself, not text that pushed it out of its card.
UNCOVERED_PICTURE = """() => [...document.images].some(image => {
    const box = image.getBoundingClientRect();
    const seen = document.elementFromPoint(box.x + box.width / 2, box.y + 10);
    return image.naturalWidth > 200 && seen !== null && image.parentElement.contains(seen);
})"""


@dataclass(frozen=True)
class Site:
    """A server, its runs, and a browser that shows them."""

    address: str
    browser: Page
    training: LocalRun
    folder: Path

    def open_training_run(self, tab: str) -> None:
        self.browser.goto(page_url(self.address, self.training.experiment_id, self.training.run_id))
        self.browser.get_by_role("tab", name=tab).click()


def write_sample(path: Path, frames: int = 50) -> Path:
    """A white bar on a changing ground, written as samples are."""
    pictures = np.full((frames, 128, 128, 3), 80, np.uint8)
    for number, picture in enumerate(pictures):
        picture[..., 0] = 5 * number
        picture[20:60, number : number + 40] = 255
    write_video(path, pictures, 25.0, SYNTHETIC_TAGS)
    return path


def run_of(address: str, folder: Path, kind: Kind) -> LocalRun:
    return open_run(EXPERIMENT, f"{kind} anna", kind, kind, None, folder / "spool", address)


def log_a_training(run: LocalRun, folder: Path) -> None:
    video = write_sample(folder / "sample.mp4")
    log_settings(run, TrainConfig(subject="anna", workers=2))
    for step in range(0, 1000, 5):
        run.log_metrics({"train/critic": math.exp(-step / 300), "train/generator": math.sin(step / 90)}, step)
    for step in (0, 500):
        strip = np.random.default_rng(step).integers(0, 255, (120, 480, 3)).astype(np.uint8)
        run.log_image(strip, "samples", step)
    run.log_artifact(video, "samples")
    drawn = as_html([Chart([Line("real", [0, 1, 2], [0, 1, 0])], "time [s]", "component 1")])
    parts = section("Side by side", embedded_video(video.read_bytes(), "real, then samples"), drawn)
    write_page(folder / "gallery.html", page("Motion after 1,000 steps", parts))
    run.log_artifact(folder / "gallery.html")
    run.link(MODEL)
    run.finish()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if missing := rgw_is_missing():
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("site")
    with postgres_server() as databases, rgw_server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        make_bucket(s3, "mlflow")
        place = databases["MLFLOW_DATABASE"], "s3://mlflow/artifacts"
        with serve(*place, log=folder / "server.log") as address, open_browser() as browser:
            training = run_of(address, folder, "train")
            log_a_training(training, folder)
            with run_of(address, folder, "evaluate") as evaluation:
                evaluation.log_metrics({"frechet_motion": 1.5}, 0)
                evaluation.link(MODEL)
            run_of(address, folder, "invert").finish()
            yield Site(address, browser, training, folder)


def test_the_table_lists_the_runs_with_what_they_measured(site: Site) -> None:
    site.browser.goto(page_url(site.address, site.training.experiment_id))
    for name in ("train anna", "evaluate anna", "invert anna"):
        site.browser.get_by_role("link", name=name).wait_for(timeout=60_000)
    screenshot(site.browser, site.folder / "runs.png")


def test_curves_are_lines_through_what_was_told(site: Site) -> None:
    site.open_training_run("Model metrics")
    charts = site.browser.locator(".js-plotly-plot")
    charts.nth(1).wait_for(timeout=60_000)
    for number in range(2):
        line = charts.nth(number).locator(".scatterlayer path.js-line").first.get_attribute("d")
        assert line is not None and line.count("L") + line.count("C") > 20
    screenshot(site.browser, site.folder / "curves.png")


def test_film_strips_lie_on_a_slider_of_steps(site: Site) -> None:
    site.open_training_run("Model metrics")
    slider = site.browser.get_by_role("slider").first
    slider.wait_for(timeout=60_000)
    slider.press("ArrowRight")
    assert site.browser.get_by_role("spinbutton").first.input_value() == "500"
    slider.scroll_into_view_if_needed()
    site.browser.wait_for_function(UNCOVERED_PICTURE, timeout=60_000)
    screenshot(site.browser, site.folder / "slider.png")


def test_the_sample_plays(site: Site) -> None:
    site.open_training_run("Artifacts")
    site.browser.get_by_text("samples", exact=True).click()
    site.browser.get_by_text("sample.mp4").first.click()
    assert media_state(site.browser) >= 2
    assert site.browser.evaluate("document.querySelector('video').videoWidth") == 128
    site.browser.evaluate("document.querySelector('video').play()")
    site.browser.wait_for_function("document.querySelector('video').currentTime > 0.5", timeout=20_000)
    screenshot(site.browser, site.folder / "video.png")


def test_the_gallery_is_shown_with_its_video_and_chart(site: Site) -> None:
    site.open_training_run("Artifacts")
    site.browser.get_by_text("gallery.html").first.click()
    gallery: FrameLocator = site.browser.frame_locator("iframe")
    gallery.get_by_role("heading", name="Motion after 1,000 steps").wait_for(timeout=60_000)
    curve = gallery.locator('svg path[clip-path][style*="--series-0"]')
    assert curve.count() == 1
    gallery.locator("video").evaluate("video => video.play()")
    assert gallery.locator("video").evaluate("video => video.videoWidth") == 128
    screenshot(site.browser, site.folder / "gallery.png")


def test_a_run_leads_to_the_others_of_its_model(site: Site) -> None:
    site.browser.goto(page_url(site.address, site.training.experiment_id, site.training.run_id))
    link = site.browser.get_by_role("link", name="model anna/step-1000")
    site.browser.goto(f"{site.address}/{link.get_attribute('href', timeout=60_000)}")
    for name in ("train anna", "evaluate anna"):
        site.browser.get_by_role("link", name=name).wait_for(timeout=60_000)
    assert site.browser.get_by_role("link", name="invert anna").count() == 0
    screenshot(site.browser, site.folder / "of_the_model.png")
