"""All output of a job to a terminal or a log goes through here, and nothing in it is interpreted as markup.

Names of files, subjects and studies are untrusted text. They may hold square brackets, `:smile:`, control
characters that would move the cursor, or bytes that are not UTF-8. Each is printed literally or as an escape
sequence.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

__all__ = [
    "LOG_EVERY_S",
    "LoggedProgress",
    "console",
    "plain_column",
    "print_error",
    "print_line",
    "print_warning",
    "printable",
    "show_any_text",
    "shown_progress",
    "status_line",
]

Item = TypeVar("Item")

LOG_COLUMNS = 160
LOG_EVERY_S = 15.0
"""The interval at which a long stage prints a line if there is no terminal."""


class _PlainConsole(Console):
    """A console that prints every string literally."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def console(stderr: bool = False) -> Console:
    """A console with colours on a terminal; in a log it is plain, and wide enough for the lines of tables."""
    made = _PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = LOG_COLUMNS
    return made


def printable(text: str) -> str:
    """The text with escapes for control characters (except line breaks) and for bytes that are not UTF-8."""
    return "".join(sign if _is_shown(sign) else sign.encode("unicode_escape").decode() for sign in text)


def _is_shown(sign: str) -> bool:
    code = ord(sign)
    return sign == "\n" or (code >= 32 and not 0x7F <= code < 0xA0 and not 0xD800 <= code < 0xE000)


def show_any_text() -> None:
    """Let standard output and error print characters that their encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_line(line: str, style: str | None = None) -> None:
    """Print a line on standard error."""
    console(stderr=True).print(printable(line), style=style, soft_wrap=True)


def print_warning(line: str) -> None:
    """Print, in yellow, a problem that does not stop a job."""
    print_line(f"warning: {line}", "yellow")


def print_error(error: BaseException) -> None:
    """Print, in red, the error that ended a job."""
    print_line(f"error: {error}", "red")


def plain_column(text: str) -> TextColumn:
    """A column of a progress bar, such as "{task.description}", whose text is not interpreted as markup."""
    return TextColumn(text, markup=False)


class LoggedProgress(Progress):
    """A progress bar on a terminal; in a log, a line every 15 seconds, so a shorter stage prints none."""

    def __init__(self, *columns: ProgressColumn, stderr: bool = False) -> None:
        shown = console(stderr)
        super().__init__(*columns, console=shown, disable=not shown.is_terminal)
        self._logged_s = time.monotonic()

    def log_line(self, line: str) -> None:
        """In a log, print this line in place of the bar if the interval has passed."""
        now_s = time.monotonic()
        if self.disable and now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            self.console.print(printable(line), soft_wrap=True)


def shown_progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items, and show a progress bar meanwhile, or lines in a log."""
    with LoggedProgress(
        plain_column("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    ) as bar:
        task = bar.add_task(printable(what), total=total)
        for done, item in enumerate(items, 1):
            yield item
            bar.update(task, completed=done)
            bar.log_line(f"{what}: {done:,} of {total:,}")


@contextmanager
def status_line(text: str) -> Iterator[None]:
    """Show what is being done: a spinner on a terminal, a line in a log."""
    shown = console()
    if shown.is_terminal:
        with shown.status(Text(text)):
            yield
    else:
        shown.print(text)
        yield
