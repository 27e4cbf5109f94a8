"""The command line of the jobs: precedence, help, dry run, errors in one line."""

from __future__ import annotations

import dataclasses
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from svgan_ray.config import InvertConfig, TrainConfig, TuneConfig
from svgan_ray.errors import DataError
from svgan_ray.orchestration.runtime.command_line import parse, run_job
from svgan_ray.temporal.recipes import paper

ROOT = Path(__file__).parents[3]


class Report:
    exit_code = 0

    def __rich__(self) -> str:
        return "all done"


@pytest.fixture(autouse=True)
def wide_terminal_in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def configured(config_type: type[Any], argv: Sequence[str]) -> Any:
    """The config that a job would act on."""
    seen: list[Any] = []

    def act(config: Any) -> Report:
        seen.append(config)
        return Report()

    assert run_job(config_type, act, argv=argv) == 0
    return seen[0]


def refuse(config: object) -> Report:
    raise AssertionError("the job acted")


def test_flags_come_before_file_before_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    Path("experiment.toml").write_text('store = "filed"\n[invert]\nbatch_frames = 8\nactors = "2"\n')
    config = configured(InvertConfig, ["--actors", "3", "--videos", "a.mp4", "b"])
    assert (config.store, config.batch_frames, config.actors) == ("filed", 8, "3")
    assert config.videos == ("a.mp4", "b")
    lines = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    assert lines["store"] == ["filed", "experiment.toml"]
    assert lines["actors"] == ["3", "flag"]
    assert lines["videos"] == ["a.mp4", "b", "flag"]
    assert "faces" not in lines, "defaults are shown by a dry run"
    assert "all" in lines


def test_another_experiment_file() -> None:
    Path("mine.toml").write_text('store = "mine"\n')
    assert configured(InvertConfig, ["--experiment-file", "mine.toml"]).store == "mine"


def test_a_recipe_flag_is_the_base_of_the_other_flags(capsys: pytest.CaptureFixture[str]) -> None:
    Path("experiment.toml").write_text("[train.temporal]\nseed = 5\n")
    temporal = configured(TrainConfig, ["--recipe", "paper", "--temporal.steps", "7"]).temporal
    assert (temporal.latent_space, temporal.steps, temporal.seed) == ("w_plus", 7, 5)
    assert temporal.critic == paper().critic
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["recipe", "paper", "flag"] in rows


def test_dry_run_prints_settings_and_plan_and_does_not_act(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_job(
        InvertConfig, refuse, plan=lambda config: f"would read {config.videos}", argv=["--dry-run"]
    )
    assert code == 0
    out = capsys.readouterr().out
    assert "would read ('demo',)" in out and "max_failure_fraction" in out


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_job(InvertConfig, refuse, argv=["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in ("--videos", "--dry-run", "--experiment-file", "Share of a GPU", "experiment.toml"):
        assert words in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--batch-frames", "0"], "batch_frames: expected a whole number, 1 or more, got 0"),
        (["--experiment-file", "bad.toml"], "bad.toml: [invert] has no key 'vidoes'; did you mean 'videos'?"),
    ],
)
def test_a_purposeful_error_is_one_line_and_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.toml").write_text("[invert]\nvidoes = []\n")
    assert run_job(InvertConfig, refuse, argv=argv) == 2
    assert capsys.readouterr().err.strip() == f"error: {words}"


def test_an_error_from_the_action_is_one_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: InvertConfig) -> Report:
        raise DataError("no footage " * 50 + "[red]not markup[/red]")

    assert run_job(InvertConfig, fail, argv=[]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1 and "[red]not markup[/red]" in error


@pytest.mark.parametrize("is_terminal", [True, False])
def test_tables_and_errors_have_colours_on_a_terminal_and_none_in_a_log(is_terminal: bool) -> None:
    command = [sys.executable, str(ROOT / "jobs/train.py"), "--dry-run", "--temporal.steps", "77"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    for name in ("NO_COLOR", "FORCE_COLOR", *([] if is_terminal else ["COLUMNS"])):
        environment.pop(name, None)
    if is_terminal:
        ours, theirs = pty.openpty()
    else:
        ours, theirs = os.pipe()
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as job:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # how a terminal says that the other side is closed
            while block := os.read(ours, 4096):
                written += block
        os.close(ours)
    lines = written.decode().splitlines()
    [changed] = [line for line in lines if "temporal.steps" in line]
    [error] = [line for line in lines if "error:" in line]
    assert job.returncode == 2 and "store" in error
    if is_terminal:
        assert "\x1b[36m" in changed and "\x1b[31m" in error
    else:
        assert "\x1b" not in written.decode() and changed.split() == ["temporal.steps", "77", "flag"]


def test_a_mistyped_flag_is_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        run_job(InvertConfig, refuse, argv=["--vidoes", "a"])
    assert caught.value.code == 2


def test_an_accident_keeps_its_traceback() -> None:
    def fail(config: InvertConfig) -> Report:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_job(InvertConfig, fail, argv=[])


def test_a_setting_is_read_under_its_former_name(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text("[tune]\nevaluations = 3\n")

    config, _, _ = parse(TuneConfig, ["--experiment-file", str(file)])
    assert config.rungs == 3
    for flag in (["--evaluations", "4"], ["--evaluations=4"]):
        config, _, _ = parse(TuneConfig, [*flag, "--experiment-file", str(file)])
        assert config.rungs == 4


def test_options_of_the_temporal_gan_are_read_under_their_former_names(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    options = 'head = "w_plus"\nloss = {gradient_penalty = 3, moment_matching = 0}\n'
    file.write_text(f'[train]\nrecipe = "paper"\n[train.temporal]\n{options}')

    flags = ["--temporal.loss.gradient-penalty-interval", "2", "--temporal.generator.head-widths", "8", "9"]
    config, _, _ = parse(TrainConfig, [*flags, "--experiment-file", str(file)])
    assert (config.temporal.latent_space, config.temporal.generator.output_widths) == ("w_plus", (8, 9))
    assert config.temporal.loss == dataclasses.replace(
        paper().loss, critic_penalty_weight=3.0, critic_penalty_interval=2
    )


def test_sigterm_ends_a_job_as_ctrl_c_does() -> None:
    code = (
        "import sys, time\n"
        "from svgan_ray.config import EvaluateConfig\n"
        "from svgan_ray.orchestration.runtime.command_line import run_job\n"
        "def act(config):\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.exit(run_job(EvaluateConfig, act, argv=[]))\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None and job.stderr is not None
        while job.stdout.readline() != "at work\n":
            assert job.poll() is None
        job.terminate()
        assert job.wait() == 130 and job.stderr.read() == ""
