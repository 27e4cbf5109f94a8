"""What the documents tell people to type works, and what they point at exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from svgan_ray.experiment_file import SECTIONS
from svgan_ray.orchestration.import_weights import arguments_of
from svgan_ray.orchestration.runtime.command_line import parse
from svgan_ray.orchestration.store_tool.job import command_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("svgan_ray", "jobs", "analysis", "benchmarks", "tests", "docs", "cluster")


def commands(document: Path) -> Iterator[list[str]]:
    """Command lines in blocks of code: the words of each, comments and continued lines resolved."""
    for block in re.findall(r"^```\n(.*?)^```", document.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("make ", "python ", "ray ")):
                yield shlex.split(line, comments=True)
    for line in re.findall(r"^    (python .*)$", document.read_text("utf-8"), re.MULTILINE):
        yield shlex.split(line)
    for line in re.findall(r"`((?:make|python|ray job submit) [^`]*)`", document.read_text("utf-8")):
        yield shlex.split(line)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def make_variables() -> set[str]:
    return set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def check_make(words: list[str]) -> None:
    for word in words[1:]:
        name, is_variable, _ = word.partition("=")
        assert name in (make_variables() if is_variable else targets()), f"make {word}"


def check_python(words: list[str]) -> None:
    if words[1] == "-m":
        assert (ROOT / (words[2].replace(".", "/") + ".py")).is_file(), words[2]
    elif words[1] == "-c":
        ast.parse(words[2])
    else:
        check_program(words[1], words[2:])


def check_program(program: str, flags: list[str]) -> None:
    assert (ROOT / program).is_file(), program
    if program == "jobs/store.py":
        command_of(flags)
        return
    job = Path(program).stem
    if job == "import_weights":
        arguments_of(flags)
        return
    if program.startswith("jobs/") and job in SECTIONS:
        parse(SECTIONS[job], flags)
        return
    source = (ROOT / program).read_text("utf-8")
    for flag in (word for word in flags if word.startswith("--")):
        declared = (f'"{flag}"', f"    {flag.removeprefix('--').replace('-', '_')}: ")  # argparse or tyro
        assert any(form in source for form in declared), f"{program} {flag}"


def check_ray(words: list[str]) -> None:
    if words[1] in ("up", "attach", "down"):
        assert (ROOT / words[2]).is_file(), words[2]
        return
    assert words[1:3] == ["job", "submit"]
    program = next(word for word in words if word.endswith(".py"))
    check_program(program, words[words.index(program) + 1 :])


CHECKS = {"make": check_make, "python": check_python, "ray": check_ray}


def test_every_command_exists_and_takes_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # without an experiment file in the way
    for document in DOCUMENTS:
        for name in re.findall(r"\$(\w+)", document.read_text("utf-8")):
            monkeypatch.setenv(name, "value")
        for words in commands(document):
            CHECKS[words[0]](words)


def test_the_readme_opens_with_its_two_commands() -> None:
    first, second, *others = commands(ROOT / "README.md")
    assert (first, second) == (["make", "demo"], ["make", "test"])
    assert {Path(w[1]).stem for w in others if w[0] == "python"} >= {
        "invert",
        "train",
        "tune",
        "sample",
        "evaluate",
    }


def anchor(heading: str) -> str:
    """How GitHub names a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        check_links(document)


def check_links(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, fragment = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name}: {link}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{document.name}: {link}"


def test_files_that_are_named_exist() -> None:
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for name in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", text):
            assert (ROOT / name).exists(), f"{document.name}: {name}"


def test_the_walks_through_the_code_name_functions_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    steps = re.findall(r"^\| \d+ \| `([\w/]+\.py)`: `(\w+)` \|", text, re.MULTILINE)
    assert len(steps) > 20
    for path, name in steps:
        [file] = [p for p in ROOT.glob(f"svgan_ray/**/{path}") if p.parts[-2] == path.split("/")[0]]
        defined = {
            n.name
            for n in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(n, ast.FunctionDef | ast.ClassDef)
        }
        assert name in defined, f"architecture.md: {path} has no {name}"


def test_comments_of_other_files_are_at_most_120_characters_wide() -> None:
    found = [ROOT / "Makefile", *(ROOT / "cluster").rglob("*.*"), ROOT / "cluster" / "Dockerfile"]
    for path in found:
        for line in path.read_text("utf-8").splitlines():
            assert len(line) <= 120 or not line.lstrip().startswith("#"), f"{path.name}: {line}"


def test_prose_is_at_most_120_characters_wide() -> None:
    """Tables, pictures and blocks of code cannot be wrapped."""
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for line in text.splitlines():
            is_prose = not line.startswith(("|", "![", "    "))
            assert len(line) <= 120 or not is_prose, f"{document.name}: {line}"
