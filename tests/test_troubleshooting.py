"""docs/troubleshooting.md quotes what the code says, and explains every reason of a failure record."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "svgan_ray").rglob("*.py"))
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")


def texts() -> set[str]:
    """Every text in the package, with `...` where an f-string puts a value; docstrings are no texts."""
    found = set()
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
                found.add(node.value)
    return found


TEXTS = texts()
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
QUOTES = sorted({quote for row in ROWS for quote in re.findall(r'"([^"]+)"', row[0])})
REASONS = sorted(
    {
        reason
        for section in re.findall(r"\| reason \| meaning \|\n(.*?)\n\n", PAGE, re.DOTALL)
        for line in section.splitlines()
        for reason in re.findall(r"`(\w+)`", line.split(" | ")[0])
    }
)


def test_every_text_that_is_quoted_is_one_of_the_codes() -> None:
    assert [quote for quote in QUOTES if not any(quote in text for text in TEXTS)] == []


def test_quotes_and_reasons_were_found() -> None:
    assert len(QUOTES) > 50 and "the cluster does not let us in" in QUOTES and "no_face" in REASONS


def test_every_reason_is_one_of_the_codes() -> None:
    """A code that the error carries, or the name of its class."""
    defined = re.findall(
        r"^class (\w+)\(", "\n".join(path.read_text("utf-8") for path in MODULES), re.MULTILINE
    )
    classes = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in defined}
    assert set(REASONS) <= TEXTS | classes


def test_every_reason_that_a_video_may_fail_for_is_explained() -> None:
    raised = set()
    for path in set(MODULES) - {ROOT / "svgan_ray" / "video" / "writing.py"}:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("VideoError", "LandmarksError"):
                raised |= {a.value for a in node.args[1:] if isinstance(a, ast.Constant)}
    assert raised and raised <= set(REASONS)
