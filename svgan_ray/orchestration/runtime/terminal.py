"""Lines that a job prints for who watches it; nothing in them is read as markup."""

from __future__ import annotations

from rich.console import Console

__all__ = ["print_error", "print_line", "print_warning"]


def print_line(line: str, style: str | None = None) -> None:
    """Print a line on standard error."""
    Console(stderr=True).print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def print_warning(line: str) -> None:
    """Print what does not stop a job, in yellow."""
    print_line(f"warning: {line}", "yellow")


def print_error(error: BaseException) -> None:
    """Print what ended a job, in red."""
    print_line(f"error: {error}", "red")
