"""Pages hold what they were given, and nothing that was given can break out of its place."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svgan_ray.report.page import (
    bullets,
    page,
    paragraph,
    picture,
    section,
    side_by_side,
    table,
    video,
    write_page,
)
from svgan_ray.report.plots import Chart, Line, as_html, as_picture, courses, mean_power_spectrum

VOID = {"meta", "img"}


class Document(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not close in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    markup = page(text, section(text), table([text], [[text]]), video(text, text))
    document = Document(markup)
    shown = [t for t in document.text if t == text]
    assert len(shown) == (
        5 if "`" in text else 6
    )  # title, h1, h2, th, td, and the caption, where backquotes vanish
    assert {tag for tag, _ in document.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "div", "table", "thead", "tbody"),
        *("tr", "th", "td", "figure", "video", "figcaption", "code"),
    }


def test_backquotes_make_code() -> None:
    assert paragraph("run `make <x>` now") == "<p>run <code>make &lt;x&gt;</code> now</p>"
    assert bullets(["a", "`b`"]) == "<ul><li>a</li><li><code>b</code></li></ul>"


def test_a_picture_is_inside_the_page_bit_by_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    [attributes] = Document(picture(image, 'a "strip"')).attributes("img")
    assert attributes["alt"] == 'a "strip"'
    data = base64.b64decode(str(attributes["src"]).removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_video_links_are_urls() -> None:
    [attributes] = Document(side_by_side(video(Path("samples/a b#1.mp4"), "x"))).attributes("video")
    assert attributes["src"] == "samples/a%20b%231.mp4"


def curve(chart: Chart) -> list[tuple[float, float]]:
    """Where a chart's first line lies in its SVG: the longest path that is drawn and not filled."""
    paths = [a for a in Document(as_html([chart])).attributes("path") if "var(--series-0)" in str(a["style"])]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", str(paths[0]["d"]))]


def test_a_chart_places_its_points_on_its_axes() -> None:
    chart = Chart([Line("real", [0, 5, 10], [0, 1, 2])], "time [s]", "c1")
    points = curve(chart)
    assert np.allclose(np.diff(points, axis=0)[0], np.diff(points, axis=0)[1], atol=1e-4)
    document = Document(as_html([chart]))
    assert {"time [s]", "c1", "real", "10", "2.00"} <= {text.strip() for text in document.text}
    assert document.attributes("svg")[0]["aria-label"] == "c1 over time [s]"


def test_a_chart_has_the_pages_colours_and_asks_for_nothing_from_elsewhere() -> None:
    markup = as_html([Chart([Line("a", [1, 2], [1, 2]), Line("b", [1, 2], [2, 1], 1)], "x", "y")])
    assert {"var(--series-0)", "var(--series-1)", "var(--soft)", "var(--line)"} <= set(
        re.findall(r"var\(--[\w-]+\)", markup)
    )
    assert not re.search(r"(?:src|href)=.http|@import|url\((?!#)", markup)
    assert markup == as_html([Chart([Line("a", [1, 2], [1, 2]), Line("b", [1, 2], [2, 1], 1)], "x", "y")])


def test_a_logarithmic_chart_spaces_decades_evenly_and_leaves_zero_out() -> None:
    points = curve(Chart([Line("a", [1, 2, 3, 4], [1, 10, 0, 100])], "x", "y", log_y=True))
    heights = [y for _, y in points]
    assert len(heights) == 3 and np.isclose(heights[0] - heights[1], heights[1] - heights[2], atol=1e-4)


@pytest.mark.parametrize("values", [[], [float("nan")] * 2, [1.0, 1.0], [0.0, -0.0], [1e-30, 1e30]])
@pytest.mark.parametrize("log_y", [False, True])
def test_charts_of_odd_values_have_finite_coordinates(values: list[float], log_y: bool) -> None:
    chart = as_html([Chart([Line("a", list(range(len(values))), values)], "x", "y", log_y=log_y)])
    Document(chart)
    assert not re.search(r"\b(nan|inf)\b", chart)
    assert ("no finite values" in chart) == (len([v for v in values if v == v and (v > 0 or not log_y)]) == 0)


def test_charts_are_one_picture() -> None:
    charts = [Chart([Line("a", [0, 1], [0, n])], "x", "y") for n in range(1, 4)]
    picture = as_picture(charts)
    assert picture.dtype == np.uint8 and picture.shape == (720, 1120, 3) and picture.std() > 10


def test_real_and_generated_motion_share_two_entries_of_the_legend() -> None:
    motion = torch.randn(90, 3)
    assert [line.name for line in courses(motion, motion, 30).lines] == ["real"] * 3 + ["generated"] * 3
    markup = as_html([courses(motion, motion, 30), mean_power_spectrum([motion], [motion], 30)])
    assert [text.strip() for text in Document(markup).text].count("generated") == 2


def test_lines_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 x and 2 y"):
        Line("a", [1, 2, 3], [1, 2])


def test_a_page_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "made" / "index.html"
    write_page(target, page("one"))
    write_page(target, page("two"))
    assert "<h1>two</h1>" in target.read_text()
    assert [f.name for f in target.parent.iterdir()] == ["index.html"]
