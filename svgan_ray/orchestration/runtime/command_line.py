"""The command line that all jobs share: flags override the file, the file overrides the defaults."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, cast, get_type_hints

import tyro
from ray.exceptions import RayTaskError
from rich.console import RenderableType
from rich.table import Table

from svgan_ray.config import DemoConfig, DoctorConfig, flatten
from svgan_ray.errors import SvganRayError
from svgan_ray.experiment_file import ExperimentFile, load_experiment_file
from svgan_ray.former_names import FORMER_NAMES
from svgan_ray.orchestration.runtime.interrupts import take_sigterm_as_interrupt
from svgan_ray.orchestration.runtime.outputs import check_outputs
from svgan_ray.orchestration.runtime.surroundings import require_sound_surroundings
from svgan_ray.orchestration.runtime.terminal import console, print_error, show_any_text
from svgan_ray.places import expanded

__all__ = ["Report", "guarded", "named_experiment_file", "run_job"]

EXPERIMENT_FILE = Path("experiment.toml")
INTERRUPTED = 130

Config = TypeVar("Config")


class Report(Protocol):
    """The result of a job: a closing table and the exit code that follows from it."""

    @property
    def exit_code(self) -> int: ...

    def __rich__(self) -> RenderableType: ...


def run_job(
    config_type: type[Config],
    action: Callable[[Config], Report],
    plan: Callable[[Config], RenderableType] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the flags, print the settings, run the job, print its report; returns the exit code.

    A `--dry-run` prints the settings and what `plan` returns. An error that is raised on purpose is printed
    as one red line and gives exit code 2, as a wrong flag does.
    """
    return guarded(lambda: _run(config_type, action, plan, sys.argv[1:] if argv is None else argv))


def _run(
    config_type: type[Config],
    action: Callable[[Config], Report],
    plan: Callable[[Config], RenderableType] | None,
    argv: Sequence[str],
) -> int:
    config, experiment, is_dry_run = parse(config_type, argv)
    shown = console()
    shown.print(config_type.__doc__, settings_table(config, experiment, everything=is_dry_run), sep="\n")
    if not is_dry_run:
        shown.print("all other settings are the defaults, which --dry-run shows\n")
    if not isinstance(config, DoctorConfig):  # the doctor reports such trouble itself, and goes on
        require_sound_surroundings(starts_ray=isinstance(config, DemoConfig) or hasattr(config, "machines"))
        check_outputs(config)
    if is_dry_run:
        shown.print(plan(config) if plan else "dry run: nothing done")
        return 0
    report = action(config)
    shown.print(report, crop=False)  # a suggested command is never cut
    return report.exit_code


def guarded(action: Callable[[], int]) -> int:
    """The action's exit code; 2 and one red line for an error raised on purpose, 130 after an interrupt.

    SIGTERM, which service managers and container runtimes send to end a process, counts as Ctrl-C.
    """
    show_any_text()
    take_sigterm_as_interrupt()
    try:
        return action()
    except (SvganRayError, RayTaskError) as error:
        if (cause := purposeful(error)) is None:
            raise
        print_error(cause)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def parse(config_type: type[Config], argv: Sequence[str]) -> tuple[Config, ExperimentFile, bool]:
    """The job's config, the experiment file it took values from, and whether this is a dry run."""
    argv = [_current_name(config_type, word) for word in argv]
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--experiment-file")
    first.add_argument("--recipe")  # recipe and preset are read first; the other flags change their values
    first.add_argument("--preset")
    known, _ = first.parse_known_args(argv)
    experiment = named_experiment_file(known.experiment_file)
    if "recipe" not in {f.name for f in dataclasses.fields(config_type)}:  # type: ignore[arg-type]
        known.recipe = known.preset = None
    command = _command_type(config_type, experiment.config(config_type, known.recipe, known.preset))
    parsed: Any = tyro.cli(command, args=list(argv), description=_description(config_type))
    return parsed.config, experiment, parsed.dry_run


def named_experiment_file(named: str | None = None) -> ExperimentFile:
    """The experiment file that a flag names, which must exist, or else the one in the working directory."""
    if named is None:
        return load_experiment_file(EXPERIMENT_FILE)
    return load_experiment_file(expanded(named), must_exist=True)


def _current_name(config_type: type[Any], word: str) -> str:
    """A word of the command line, with a flag's former name replaced."""
    flag, equals, value = word.partition("=")
    current = _current_flags(config_type).get(_flag(flag))
    return f"{current}{equals}{value}" if current else word


def _current_flags(config_type: type[Any], prefix: str = "--") -> dict[str, str]:
    """The flags of a config's former names, including those of nested configs, each with the current flag."""
    former = FORMER_NAMES.get(config_type.__name__, {})
    flags = {_flag(prefix + old): _flag(prefix + new) for old, new in former.items()}
    for name, hint in get_type_hints(config_type).items():
        if dataclasses.is_dataclass(hint):
            flags |= _current_flags(cast(type[Any], hint), f"{prefix}{name}.")
    return flags


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _command_type(config_type: type[Any], defaults: Any) -> type[Any]:
    """The job's own fields without a prefix, and the two flags that every job has."""
    fields: list[Any] = [
        ("config", Annotated[config_type, tyro.conf.arg(name="")], dataclasses.field(default=defaults)),
        (
            "experiment_file",
            Annotated[Path, tyro.conf.arg(help="TOML file with settings; flags override it.")],
            dataclasses.field(default=EXPERIMENT_FILE),
        ),
        (
            "dry_run",
            Annotated[bool, tyro.conf.arg(help="Print the settings and the plan, and do nothing else.")],
            dataclasses.field(default=False),
        ),
    ]
    return dataclasses.make_dataclass("Command", fields, frozen=True)


def _description(config_type: type[Any]) -> str:
    return (
        f"{config_type.__doc__}\n\nEvery flag can also be a key of experiment.toml in the working directory; "
        "the values shown as defaults are what would be used now."
    )


def settings_table(config: Any, experiment: ExperimentFile, everything: bool) -> Table:
    """Settings with their values and origins: all of them, or those that differ from the defaults."""
    recipe, preset = getattr(config, "recipe", None), getattr(config, "preset", None)
    from_file = flatten(experiment.config(type(config), recipe, preset))
    defaults = flatten(ExperimentFile(experiment.path, {}, {}).config(type(config), recipe, preset))
    usual, filed = flatten(type(config)()), flatten(experiment.config(type(config)))
    for name in {"recipe", "preset"} & defaults.keys():  # the configs above already start from them
        defaults[name], from_file[name] = usual[name], filed[name]
    table = Table("setting", "value", "from", box=None)
    for name, value in flatten(config).items():
        if value == defaults[name] and not everything:
            continue
        default = (preset or f"recipe {recipe}") if name.startswith("temporal.") else "default"
        origin = experiment.path.name if value != defaults[name] else default
        origin = origin if value == from_file[name] else "flag"
        table.add_row(name, _shown(value), origin, style="cyan" if value != defaults[name] else None)
    return table


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def purposeful(error: BaseException) -> SvganRayError | None:
    """The error raised on purpose, even if Ray wrapped it on its way from a worker."""
    if isinstance(error, RayTaskError):
        return purposeful(error.cause)
    return error if isinstance(error, SvganRayError) else None
