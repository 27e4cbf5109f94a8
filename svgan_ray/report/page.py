"""Builds an HTML page from a few kinds of parts. Only these functions make parts, and they escape all text.

Pictures are embedded in the page, so that it can be mailed; videos are linked by paths relative to the page.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NewType
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from svgan_ray.files import write_whole

__all__ = [
    "SERIES_COLOURS",
    "Html",
    "bullets",
    "embedded_video",
    "page",
    "paragraph",
    "picture",
    "png",
    "section",
    "side_by_side",
    "table",
    "video",
    "write_page",
]

Html = NewType("Html", str)
"""Markup whose text has been escaped."""

SERIES_COLOURS = ("#2563a8", "#c4541b", "#3b8050", "#7d4fa3")
"""Colours of curves on a light background; the page's style has lighter ones for a dark background."""

_SERIES = " ".join(f"--series-{number}: {colour};" for number, colour in enumerate(SERIES_COLOURS))
_STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5c6773; --line: #d8dee5; --paper: #ffffff; }
:root { SERIES }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #9aa5b1; --line: #38414b; --paper: #15191e;
          --series-0: #7db4ee; --series-1: #f2985f; --series-2: #84cc9b; --series-3: #c6a0e6; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p, li { max-width: 46rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.25rem .3rem 0;
         border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
figure { margin: .5rem 0; }
figcaption { color: var(--soft); font-size: .875rem; }
img, video, svg { max-width: 100%; height: auto; display: block; }
video { border-radius: 4px; background: #000; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
.scroll { overflow-x: auto; }
code { font-size: .9em; }
""".replace("SERIES", _SERIES)


def page(title: str, *parts: Html) -> Html:
    """The whole document."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return Html(f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n')


def write_page(path: str | Path, document: Html) -> None:
    """Write a page atomically; a reader sees the old one or the new one."""
    write_whole(path, document)


def section(heading: str, *parts: Html) -> Html:
    """A heading and the parts below it."""
    return Html("\n".join([f"<h2>{html.escape(heading)}</h2>", *parts]))


def paragraph(text: str) -> Html:
    """A paragraph of plain text, with `code` between backquotes."""
    return Html(f"<p>{_inline(text)}</p>")


def bullets(lines: Iterable[str]) -> Html:
    """A list of lines of plain text, with `code` between backquotes."""
    items = "".join(f"<li>{_inline(line)}</li>" for line in lines)
    return Html(f"<ul>{items}</ul>")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table of text."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return Html(
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def picture(image: npt.NDArray[np.uint8], caption: str) -> Html:
    """A picture, uint8 [H, W, 3], embedded in the page."""
    from PIL import Image  # an optional decoder of pictures, as everywhere in the pure layer

    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG", optimize=True)
    return png(data.getvalue(), caption)


def png(data: bytes, caption: str) -> Html:
    """A PNG file, embedded in the page."""
    source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return _figure(f'<img src="{source}" alt="{html.escape(caption)}">', caption)


def video(path: str | Path, caption: str, width: int = 256) -> Html:
    """A looping video at `path`, relative to the page, with controls and without sound."""
    source = quote(Path(path).as_posix())
    player = f'<video src="{source}" width="{width}" controls loop muted autoplay playsinline></video>'
    return _figure(player, caption)


def embedded_video(data: bytes, caption: str, width: int = 256) -> Html:
    """A looping mp4 inside the page."""
    source = "data:video/mp4;base64," + base64.b64encode(data).decode("ascii")
    player = f'<video src="{source}" width="{width}" controls loop muted autoplay playsinline></video>'
    return _figure(player, caption)


def side_by_side(*parts: Html) -> Html:
    """Parts in a row, which wraps on a narrow screen."""
    return Html('<div class="row">' + "\n".join(parts) + "</div>")


def _figure(content: str, caption: str) -> Html:
    return Html(f"<figure>{content}<figcaption>{_inline(caption)}</figcaption></figure>")


def _inline(text: str) -> str:
    """Escaped text; every second piece between backquotes becomes code."""
    pieces = html.escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))
