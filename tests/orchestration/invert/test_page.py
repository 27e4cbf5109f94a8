"""The page of an inversion, as text and as a browser shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svgan_ray.orchestration.invert.items import Pair, Tracked
from svgan_ray.orchestration.invert.page import report_page
from svgan_ray.orchestration.invert.report import InvertReport
from svgan_ray.orchestration.runtime.sources import Source
from svgan_ray.report.page import write_page
from svgan_ray.store import FailureRecord
from svgan_ray.video.face_report import FaceReport
from tests.browser import open_browser

FACES = FaceReport(
    frames=2000,
    frames_with_face=1900,
    faces=3100,
    people=2,
    followed=1,
    clips=4,
    gaps=3,
    gap_frames=12,
    skipped_frames=77,
    found_jitter=0.0123,
    crop_jitter=0.0045,
)


def report(*failures: FailureRecord, faces: FaceReport | None = None) -> InvertReport:
    return InvertReport(
        store="s3://motion/store",
        tracking_id="t",
        inversion_id="i",
        videos=5,
        videos_to_do=4,
        videos_done_before=1,
        clips_committed=3,
        clips_skipped=2,
        frames_encoded=1234,
        frames_reused=128,
        frames_skipped=7,
        mean_error=0.05,
        duration_s=10.0,
        failures=failures,
        notes=("a note",),
        max_failure_fraction=0.5,
        faces={"/footage/anna.mp4": faces} if faces else {},
    )


def tracked() -> Tracked:
    sheet = np.full((8, 24, 3), 120, np.uint8)
    return Tracked(Source("/footage/anna.mp4", 1, "1"), "v", 2000, 77, 4, 4, 1923, FACES, sheet)


def pairs(count: int, side: int = 16) -> list[Pair]:
    """Black crops beside white reconstructions, the worst first."""
    pixels = np.stack([np.zeros((side, side, 3), np.uint8), np.full((side, side, 3), 255, np.uint8)])
    return [Pair(f"/footage/v{i}.mp4", 10 * i, 0.5 / (i + 1), pixels) for i in range(count)]


FAILURE = FailureRecord("id", "/footage/<b>.mp4", "track", "truncated", "ends early & badly", attempts=2)


def test_what_happened_is_told() -> None:
    text = report_page(report(FAILURE), [], pairs(3)[2:], pairs(2))
    for piece in ("1,234 in 10 s", "123.4", "/footage/&lt;b&gt;.mp4", "truncated", "ends early &amp; badly"):
        assert piece in text
    assert text.index("v0.mp4, frame 0: error 0.5000 (6.0 dB)") < text.index("v1.mp4, frame 10: error 0.2500")
    typical = text.index("v2.mp4, frame 20")
    assert text.index("Typical frames") < typical < text.index("Worst frames")
    assert text.count("<img") == 3 and "a note" in text
    assert "://" not in text.replace("s3://motion", ""), "nothing is fetched"


def test_an_inversion_without_trouble_says_so() -> None:
    text = report_page(report(), [], [], [])
    assert "None." in text and text.count("No frame was measured") == 2 and "No video was tracked" in text


def test_faces_of_each_video_are_told() -> None:
    text = report_page(report(faces=FACES), [tracked()], [], [])
    for piece in ("anna.mp4", "2,000", "1,900", "3,100", "3 (12 frames)", "77", "1.23 → 0.45"):
        assert f"<td>{piece}</td>" in text
    assert text.count("<img") == 1 and "anna.mp4: crops from its first frame" in text


@pytest.mark.cluster
def test_a_browser_shows_originals_beside_reconstructions(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", report_page(report(FAILURE), [], pairs(1), pairs(3)))
    with open_browser() as browser:
        errors: list[str] = []
        browser.on("console", lambda message: errors.append(message.text))
        browser.goto((tmp_path / "page.html").as_uri())
        sizes = browser.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.naturalHeight])")
        assert sizes == [[32, 16]] * 4
        left_and_right = browser.evaluate(
            """() => {
                const image = document.querySelector('img'), canvas = document.createElement('canvas');
                canvas.width = 32; canvas.height = 16;
                const context = canvas.getContext('2d', { willReadFrequently: true });
                context.drawImage(image, 0, 0);
                return [context.getImageData(4, 8, 1, 1).data[0], context.getImageData(28, 8, 1, 1).data[0]];
            }"""
        )
        assert left_and_right == [0, 255]
        assert browser.get_by_text("ends early & badly").is_visible() and not errors
