"""Pages hold what they were given, and nothing that was given can break out of its place."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svgan_ray.report.charts import Line, line_chart
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


def test_a_chart_places_its_points_on_its_axes() -> None:
    chart = line_chart([Line("real", [0, 5, 10], [0, 1, 2])], "time [s]", "c1", width=520, height=260)
    [points] = [a["points"] for a in Document(chart).attributes("polyline")]
    assert points == "72.0,224.0 290.0,118.0 508.0,12.0"
    assert {"time [s]", "c1", "10", "2"} <= set(Document(chart).text)


def test_a_logarithmic_chart_spaces_decades_evenly_and_leaves_zero_out() -> None:
    chart = line_chart([Line("a", [1, 2, 3, 4], [1, 10, 0, 100])], "x", "y", height=260, log_y=True)
    [points] = [a["points"] for a in Document(chart).attributes("polyline")]
    assert [p.split(",")[1] for p in str(points).split()] == ["224.0", "118.0", "12.0"]


@pytest.mark.parametrize("values", [[], [float("nan")] * 2, [1.0, 1.0], [0.0, -0.0], [1e-30, 1e30]])
@pytest.mark.parametrize("log_y", [False, True])
def test_charts_of_odd_values_have_finite_coordinates(values: list[float], log_y: bool) -> None:
    chart = line_chart([Line("a", list(range(len(values))), values)], "x", "y", log_y=log_y)
    Document(chart)
    assert not re.search(r"\b(nan|inf)\b", chart)


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=30))
def test_every_curve_stays_inside_its_frame(values: list[float]) -> None:
    chart = line_chart([Line("a", list(range(len(values))), values)], "x", "y", width=400, height=200)
    [points] = [a["points"] for a in Document(chart).attributes("polyline")]
    places = [tuple(map(float, p.split(","))) for p in str(points).split()]
    assert len(places) == len(values)
    assert all(72 <= x <= 388 and 12 <= y <= 164 for x, y in places)


def test_lines_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 x and 2 y"):
        Line("a", [1, 2, 3], [1, 2])


def test_a_page_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "made" / "index.html"
    write_page(target, page("one"))
    write_page(target, page("two"))
    assert "<h1>two</h1>" in target.read_text()
    assert [f.name for f in target.parent.iterdir()] == ["index.html"]
