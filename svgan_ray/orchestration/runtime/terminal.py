"""All that a job shows on a terminal or in a log goes through here: nothing in it is read as markup.

Names of files, subjects and studies are other people's text. They may hold square brackets, `:smile:`,
control characters that would move the cursor, and bytes that are no UTF-8: each is shown as it is, or as an
escape.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
    "command",
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
"""Where there is no terminal, a long stage prints a line so often."""


class _PlainConsole(Console):
    """A console that takes every string as it is."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def console(stderr: bool = False) -> Console:
    """A console with colours on a terminal; a log is plain, and wide enough for the lines of tables."""
    made = _PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = LOG_COLUMNS
    return made


def printable(text: str) -> str:
    """The text with control characters, line breaks apart, and what is no UTF-8 as escapes."""
    return "".join(sign if _is_shown(sign) else sign.encode("unicode_escape").decode() for sign in text)


def _is_shown(sign: str) -> bool:
    code = ord(sign)
    return sign == "\n" or (code >= 32 and not 0x7F <= code < 0xA0 and not 0xD800 <= code < 0xE000)


def show_any_text() -> None:
    """Let standard output and error take what their encoding lacks, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def command(job: str, *flags: str) -> str:
    """A command that we suggest, quoted for the shell, so that it runs as it is printed."""
    program = ("svgan-ray", job) if Path(sys.argv[0]).name == "svgan-ray" else ("python", f"jobs/{job}.py")
    return shlex.join((*program, *flags))


def print_line(line: str, style: str | None = None) -> None:
    """Print a line on standard error."""
    console(stderr=True).print(printable(line), style=style, soft_wrap=True)


def print_warning(line: str) -> None:
    """Print what does not stop a job, in yellow."""
    print_line(f"warning: {line}", "yellow")


def print_error(error: BaseException) -> None:
    """Print what ended a job, in red."""
    print_line(f"error: {error}", "red")


def plain_column(text: str) -> TextColumn:
    """A column of a progress bar, such as "{task.description}", whose text is not read as markup."""
    return TextColumn(text, markup=False)


class LoggedProgress(Progress):
    """A progress bar on a terminal; in a log a line every 15 seconds, and none of a shorter stage."""

    def __init__(self, *columns: ProgressColumn, stderr: bool = False) -> None:
        shown = console(stderr)
        super().__init__(*columns, console=shown, disable=not shown.is_terminal)
        self._logged_s = time.monotonic()

    def log_line(self, line: str) -> None:
        """Print what stands in place of the bar, if it is time to."""
        now_s = time.monotonic()
        if self.disable and now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            self.console.print(printable(line), soft_wrap=True)


def shown_progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, with a bar while they are gone through, or lines in a log."""
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
    """Say what is being done: a spinner on a terminal, a line in a log."""
    shown = console()
    if shown.is_terminal:
        with shown.status(Text(text)):
            yield
    else:
        shown.print(text)
        yield
