"""What a job suggests runs as it is printed, whatever the names are."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table

from svgan_ray.config import InvertConfig, SampleConfig, TrainConfig
from svgan_ray.orchestration.runtime.command_line import parse
from svgan_ray.orchestration.runtime.suggested import command, next_step
from svgan_ray.orchestration.runtime.terminal import console

PACKAGE = Path(__file__).parents[3] / "svgan_ray"
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20)
COMMANDS = re.compile(
    r"svgan-ray [a-z_]+ [^;,.{]*--[a-z-]+[ =]\{|jobs/[a-z_]+\.py [^;,.{]*\{|\bmake [a-z-]+ [A-Z_]+=\{"
    r"|\b(rm|mv|cp|mkdir|chmod|kill|ray job) [^;,.{]*\{"
)


def words(line: str) -> list[str]:
    """The words that bash makes of a line, as file names are."""
    shown = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    return [os.fsdecode(word) for word in shown.split(b"\0")[:-1]]


@given(NAMES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example('my model\'s $HOME [1] "two" `ls` \\ !x.mp4')
@example("-x")
@example("line\nbreak\x1b[2J'\\")
@example("not utf-8 \udcff")
def test_a_name_reaches_the_job_as_it_is(name: str) -> None:
    [python, job, *flags] = words(command("sample", model=f"/m/{name}", subject=name))
    assert (python, job) == ("python", "jobs/sample.py")
    assert command("sample", model=f"/m/{name}").isprintable()
    if "$" not in name and name.strip():  # which `places.expanded` reads
        try:
            config, _, _ = parse(SampleConfig, flags)
        except Exception as error:  # a name with control characters is refused by its own rules
            assert type(error).__name__ == "ConfigError"
        else:
            assert (config.model, config.subject) == (f"/m/{name}", name)


def test_only_what_the_job_would_not_take_anyway_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("sample", model=str(tmp_path / "models/demo"), weights="demo", subject=None) == (
        "python jobs/sample.py"
    )
    Path("experiment.toml").write_text('weights = "anna"\n')
    assert command("sample", weights="demo") == "python jobs/sample.py --weights demo"
    Path("experiment.toml").write_text("weights = ")
    assert command("sample", weights="demo") == "python jobs/sample.py --weights demo", (
        "a file with a mistake"
    )
    monkeypatch.setattr(sys, "argv", ["/usr/bin/svgan-ray"])
    assert command("sample", model="a b") == "svgan-ray sample --model 'a b'"


def test_a_long_command_is_neither_wrapped_nor_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None)
    table.add_row("x" * 30)
    shown = console()
    shown.width = 40
    shown.print(Group(table, next_step("train", preset="/a folder/" + "x" * 200)), crop=False)
    line = capsys.readouterr().out.splitlines()[-1]
    assert words(line.removeprefix(" next  "))[-2:] == ["--preset", "/a folder/" + "x" * 200]


def test_the_suggestion_of_one_job_is_understood_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = str(tmp_path / "it's [my] store")
    for config_type, line in (
        (InvertConfig, command("invert", weights=odd, store=odd)),
        (TrainConfig, command("train", store=odd, weights=odd, subject="it's me", snapshot=None)),
    ):
        config, _, _ = parse(config_type, words(line)[2:])
        assert config.store == config.weights == odd


def test_messages_name_commands_with_values_only_through_the_one_that_quotes() -> None:
    """A message that holds a command and, after it, something that was put in unquoted."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
                )
                assert not COMMANDS.search(text), f"{path}:{node.lineno}: {text}"
