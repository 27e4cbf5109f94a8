"""What others named is shown as it is: never read as markup, never able to move the cursor."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from svgan_ray.orchestration.runtime import terminal
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, console, plain_column, printable

PACKAGE = Path(__file__).parents[3] / "svgan_ray"
NAMES = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)


def shown(*things: object) -> str:
    screen = console()
    screen.width = 400
    with screen.capture() as capture:
        screen.print(*things)
    return capture.get()


@given(NAMES)
def test_any_name_stands_in_tables_and_lines_as_it_is(name: str) -> None:
    name = name.replace("\n", "")
    table = Table("a", box=None, title=name, caption=name)
    table.add_row(f"x{name}y")
    text = shown(table)
    visible = printable(f"x{name}y")
    assert "".join(visible.split()) in "".join(text.split())
    assert "\x1b" not in text


def test_square_brackets_and_smileys_are_no_markup() -> None:
    name = "odd[/x] [red]video[/red] :smile: [dQw4w9WgXcQ].mp4"
    assert name in shown(name)


def test_only_the_terminal_module_makes_consoles_and_columns_of_text() -> None:
    for path in sorted((PACKAGE / "orchestration").rglob("*.py")):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert (
                name not in ("Console", "TextColumn", "Progress", "track") or path.parent.name == "invert"
            ), f"{path}: {name} reads text as markup; take it from runtime/terminal.py"
            assert name not in ("Console", "TextColumn"), path


def test_a_log_has_a_line_of_a_long_stage_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now_s[0])
    with LoggedProgress(plain_column("training")) as bar:
        for _ in range(50):
            now_s[0] += 1
            bar.log_line(f"after {now_s[0] - 100:g} s [red]")
    assert capsys.readouterr().out.splitlines() == [f"after {n} s [red]" for n in (15, 30, 45)]
