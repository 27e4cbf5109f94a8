"""The page of a run as a person sees it: a real server, a real browser."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from svgan_ray.tracking.server import page_url, serve
from tests.browser import media_state, open_browser, screenshot

pytestmark = pytest.mark.cluster


def write_h264(path: Path, frames: int = 50) -> None:
    """A white bar on a changing ground, as the UI has to play it."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = np.full((128, 128, 3), (5 * number, 80, 255 - 5 * number), np.uint8)
            picture[20:60, number : number + 40] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def log_a_training(tracker, folder: Path) -> None:
    write_h264(folder / "sample.mp4")
    for step in range(0, 1000, 5):
        tracker.log_metrics(
            {"loss/critic": math.exp(-step / 300), "loss/generator": math.sin(step / 90)}, step
        )
    for step in (0, 500):
        strip = np.random.default_rng(step).integers(0, 255, (120, 480, 3)).astype(np.uint8)
        tracker.log_image(strip, "validation/film strip", step)
    tracker.log_artifact(folder / "sample.mp4", "samples")
    tracker.finish()


def test_curves_show_the_slider_steps_and_the_video_plays(open_run, uri, tmp_path):
    tracker = open_run()
    log_a_training(tracker, tmp_path)
    with (
        serve(uri, str(tmp_path / "mlartifacts"), log=tmp_path / "server.log") as address,
        open_browser() as page,
    ):
        page.goto(page_url(address, tracker.experiment_id, tracker.run_id))
        page.get_by_role("tab", name="Model metrics").click()
        charts = page.locator(".js-plotly-plot")
        charts.nth(1).wait_for(timeout=60_000)
        for number in range(2):  # a line through many points in each
            line = charts.nth(number).locator(".scatterlayer path.js-line").first.get_attribute("d")
            assert line is not None and line.count("L") + line.count("C") > 20
        screenshot(page, tmp_path / "curves.png")
        slider = page.get_by_role("slider").first
        slider.press("ArrowRight")
        assert page.get_by_role("spinbutton").first.input_value() == "500"
        slider.scroll_into_view_if_needed()
        screenshot(page, tmp_path / "slider.png")
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("samples").click()
        page.get_by_text("sample.mp4").first.click()
        assert media_state(page) >= 2
        assert page.evaluate("document.querySelector('video').videoWidth") == 128
        page.evaluate("document.querySelector('video').play()")
        page.wait_for_function("document.querySelector('video').currentTime > 0.5", timeout=20_000)
        screenshot(page, tmp_path / "video.png")
