"""The store's own tool: list, show, verify, collect garbage, take snapshots, export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from svgan_ray.config import DataChoice, InvertConfig
from svgan_ray.orchestration.runtime.command_line import guarded, named_experiment_file
from svgan_ray.orchestration.runtime.outputs import require_writable_folder
from svgan_ray.orchestration.runtime.snapshots import named_snapshot, take_snapshot
from svgan_ray.orchestration.runtime.terminal import LoggedProgress, console, plain_column
from svgan_ray.orchestration.store_tool.export import ExportFormat, export_clips
from svgan_ray.orchestration.store_tool.views import (
    catalog_view,
    garbage_view,
    overview,
    show_view,
    snapshot_view,
    verification_view,
)
from svgan_ray.places import expanded
from svgan_ray.ranges import at_least, check_ranges
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.catalog import update_catalog
from svgan_ray.store.collection import GRACE_S, collect
from svgan_ray.store.objects import OnProgress
from svgan_ray.store.verification import repair, verify

__all__ = ["Command", "command_of", "main"]

_DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Common:
    """The options of every subcommand."""

    store: str | None = None
    """Folder or s3://bucket/prefix. The default is the store that experiment.toml names."""


@dataclass(frozen=True, kw_only=True)
class Ls(Common):
    """List the store's content: bytes by section, inversions, trackings, snapshots, models."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        with progress("objects") as on_progress:
            view = overview(store, on_progress)
        console.print(view)
        return 0


@dataclass(frozen=True, kw_only=True)
class Show(Common):
    """Show one entry of the store in full: an inversion, tracking, video, clip, snapshot or model."""

    name: tyro.conf.Positional[str]
    """Its id or the first digits of its id, a snapshot's NAME or NAME@GENERATION, or a model's name."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        console.print(show_view(store, self.name))
        return 0


@dataclass(frozen=True, kw_only=True)
class Verify(Common):
    """Check that records are sound and that the objects they name exist; exit code 1 if a problem is left."""

    deep: bool = False
    """Also read and hash every object, which takes as long as reading the whole store."""
    repair: bool = False
    """Delete damaged objects that the next run of jobs/invert.py makes again; the table names them."""
    break_lock: bool = False
    """Repair although the store is locked. Use it only if the lock's holder is known to be dead."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        with progress("objects") as on_progress:
            report = verify(store, self.deep, on_progress)
        console.print(verification_view(report))
        deleted = repair(store, report, self.break_lock) if self.repair and report.problems else []
        if deleted:
            console.print(f"deleted {len(deleted):,} objects; run jobs/invert.py to make them again")
        left = [problem for problem in report.problems if not (deleted and problem.repair_keys)]
        return 1 if left else 0


@dataclass(frozen=True, kw_only=True)
class Gc(Common):
    """Find content that no record names, left by killed writers and lost races; --delete deletes it."""

    delete: bool = False
    """Delete the content that was found."""
    grace_days: Annotated[float, at_least(0)] = GRACE_S / _DAY_S
    """Leave content that is younger than this. Use less than the default only while nobody writes."""
    break_lock: bool = False
    """Collect although the store is locked. Use it only if the lock's holder is known to be dead."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        check_ranges(self)
        with progress("owners") as on_progress:
            report = collect(store, not self.delete, self.grace_days * _DAY_S, self.break_lock, on_progress)
        console.print(garbage_view(report, self.delete, self.grace_days))
        return 0


@dataclass(frozen=True, kw_only=True)
class TakeSnapshot(Common):
    """Freeze the clips of one subject under a name; equal clips give the same generation again."""

    name: tyro.conf.Positional[str | None] = None
    """Name of the snapshot. The default is the subject's name."""
    subject: str | None = None
    """Subject whose clips are frozen. The default is the only subject."""
    inversion: str | None = None
    """Id of the inversion. The default is the only one."""
    min_clip_s: float = 0.0
    """Leave out clips that are shorter than this."""
    max_error: float | None = None
    """Leave out clips whose mean reconstruction error is larger than this, or unknown."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        choice = DataChoice(
            subject=self.subject,
            snapshot=self.name,
            inversion=self.inversion,
            min_clip_s=self.min_clip_s,
            max_error=self.max_error,
        )
        console.print(snapshot_view(take_snapshot(store, choice)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Write a snapshot's clips for other programs, with an index clips.json."""

    name: tyro.conf.Positional[str]
    """The snapshot: NAME, or NAME@GENERATION."""
    out: Path
    """New folder to write; it appears when it is complete."""
    format: ExportFormat = "npz"
    """`npz` writes a NumPy archive per clip, `parquet` a row per frame, `webdataset` shards of archives."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        snapshot, out = named_snapshot(store, self.name), Path(expanded(str(self.out)))
        require_writable_folder(out.absolute().parent, f"--out {out}")
        with progress("clips") as on_progress:
            console.print(export_clips(store, snapshot, out, on_progress, self.format))
        return 0


@dataclass(frozen=True, kw_only=True)
class Catalog(Common):
    """Write a table of all committed clips, one row per clip, to catalog/catalog.parquet in the store."""

    def __call__(self, store: LatentStore, console: Console) -> int:
        with progress("new clips") as on_progress:
            report = update_catalog(store, on_progress)
        console.print(catalog_view(report))
        return 1 if report.unreadable else 0


Command: TypeAlias = (
    Annotated[Ls, tyro.conf.subcommand("ls")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Gc, tyro.conf.subcommand("gc")]
    | Annotated[TakeSnapshot, tyro.conf.subcommand("snapshot")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Catalog, tyro.conf.subcommand("catalog")]
)


def command_of(argv: Sequence[str]) -> Command:
    """The subcommand that a command line names, with its flags."""
    description = "Shows and maintains a latent store; docs/store.md describes its content."
    command: Command = tyro.cli(Command, args=list(argv), description=description)
    return command


def main(flags: Sequence[str]) -> int:
    """Parse and act; returns the exit code: 0, 1 if `verify` leaves problems, 2 for errors."""
    command = command_of(flags)

    def act() -> int:
        place = expanded(command.store or named_experiment_file().config(InvertConfig).store)
        return command(open_store(place), console())

    return guarded(act)


@contextmanager
def progress(unit: str) -> Iterator[OnProgress]:
    """A progress bar on stderr during long work, or lines in a log."""
    columns = (plain_column(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with LoggedProgress(*columns, stderr=True) as bar:
        task = bar.add_task(unit, total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)
            bar.log_line(f"{unit}: {done:,}" + (f" of {total:,}" if total is not None else ""))

        yield show
