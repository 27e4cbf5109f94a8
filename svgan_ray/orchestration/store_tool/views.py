"""The content of a store as tables for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table

from svgan_ray.errors import DataError
from svgan_ray.orchestration.runtime.snapshots import named_snapshot
from svgan_ray.store import CommitRecord, FailureRecord, LatentStore, Snapshot, TrackRecord, keys
from svgan_ray.store.catalog import CatalogReport
from svgan_ray.store.collection import CollectionReport
from svgan_ray.store.objects import OnProgress, unwatched, watched
from svgan_ray.store.records import ModelManifest
from svgan_ray.store.verification import VerificationReport
from svgan_ray.video.footage_facts import PARAMETER, facts_of

__all__ = ["catalog_view", "garbage_view", "overview", "show_view", "snapshot_view", "verification_view"]

_ROWS = 40
"""Longer tables are cut; their last row tells how many rows are missing."""

_REPAIR_PLAN = (
    "Repair: `verify --repair` deletes the objects named, the next run of jobs/invert.py makes them again "
    "from the footage and takes sound chunks as they are."
)
_BY_HAND = (
    "By hand: restore models and foreign objects from a copy or delete them; a snapshot is sound again once "
    "its clips were inverted to the same latents, else take a new one."
)
_LISTED = 8  # candidates in an error

_KINDS = {"commits": ("inversion", "clip"), "tracks": ("tracking", "video"), "failures": ("", "failure")}
"""The kinds of the two ids in the keys of a section."""


def overview(store: LatentStore, on_progress: OnProgress = unwatched) -> RenderableType:
    """Everything in the store, in one listing."""
    objects: Counter[str] = Counter()
    size_bytes: Counter[str] = Counter()
    records: dict[str, Counter[str]] = defaultdict(Counter)  # by section and id or name
    for entry in watched(store.backend.list(""), on_progress):
        section, _, rest = entry.key.partition("/")
        objects[section] += 1
        size_bytes[section] += entry.size_bytes
        name = keys.model_name(entry.key) if section == "models" else rest.partition("/")[0]
        if name and entry.key.endswith(".json"):
            records[section][name] += 1
    failed = records["failures"]
    sections = [(s, f"{objects[s]:,}", decimal(size_bytes[s])) for s in keys.SECTIONS if objects[s]]
    tables = [
        _table(("section", "objects", "size"), sections),
        _table(("inversion", "clips", "failed"), _counts(records["commits"], failed)),
        _table(("tracking", "videos", "failed"), _counts(records["tracks"], failed)),
        _table(("snapshot", "generations"), _counts(records["snapshots"])),
        _table(("model",), [(name,) for name in sorted(records["models"])]),
    ]
    parts: list[RenderableType] = [store.uri]
    for table in tables:
        parts += ["", table] if table.row_count else []
    return Group(*parts)


def show_view(store: LatentStore, name: str) -> RenderableType:
    """The entry with an id, its first digits, or a name. Raises DataError if there is none or several."""
    if name.partition("@")[0] in store.snapshot_names():
        return snapshot_view(named_snapshot(store, name))
    if (manifest := _model(store, name)) is not None:
        rows = [(file.path, decimal(file.size_bytes), file.sha256) for file in manifest.files]
        return Group(f"model {name}", "", _table(("file", "size", "sha256"), rows))
    found = _Found(store, name)
    return _VIEWS[found.kind](store, found)


def snapshot_view(snapshot: Snapshot) -> RenderableType:
    """A snapshot: the filters that chose its clips, and the clips."""
    filters = [f"{name} {value}" for name, value in snapshot.filters.items() if value is not None]
    overview = _grid(
        ("snapshot", f"{snapshot.name}@{snapshot.generation}"),
        ("digest", snapshot.digest),
        ("inversion", snapshot.inversion_id),
        ("generator", snapshot.generator_sha256),
        ("latents", f"{snapshot.num_ws} × {snapshot.w_dim}"),
        ("chosen by", ", ".join(filters)),
        ("footage", _footage([(clip.frames, clip.frame_rate_hz) for clip in snapshot.clips])),
    )
    rows = [
        (clip.clip_id, clip.subject, f"{clip.frames:,}", f"{clip.frame_rate_hz:g}") for clip in snapshot.clips
    ]
    return Group(overview, "", _table(("clip", "subject", "frames", "frames/s"), rows))


def verification_view(report: VerificationReport) -> RenderableType:
    """The problems and their remedies."""
    looked_at = f"{report.objects:,} objects, {decimal(report.size_bytes)}"
    if not report.problems:
        return f"{looked_at}: all sound"
    parts: list[RenderableType] = [f"{looked_at}; problems: {len(report.problems):,}"]
    for problem in report.problems[:_ROWS]:
        repairs = [("--repair deletes", key) for key in problem.repair_keys] or [("repair", "by hand")]
        parts += ["", _grid(("object", problem.key), ("fault", problem.fault), *repairs)]
    if len(report.problems) > _ROWS:
        parts += ["", f"and {len(report.problems) - _ROWS:,} more"]
    if any(problem.repair_keys for problem in report.problems):
        parts += ["", _REPAIR_PLAN]
    if not all(problem.repair_keys for problem in report.problems):
        parts += ["", _BY_HAND]
    return Group(*parts)


def garbage_view(report: CollectionReport, deleted: bool, grace_days: float) -> RenderableType:
    """The content that was collected, or would be."""
    sections = Counter(key.partition("/")[0] for key in report.keys)
    rows = [(section, f"{count:,}") for section, count in sorted(sections.items())]
    did = "deleted" if deleted else "would delete"
    lines = [f"{did} {len(report.keys):,} objects, {decimal(report.size_bytes)}"]
    if report.young:
        lines.append(f"left {report.young:,} unnamed objects that are younger than {grace_days:g} days")
    if report.unreadable:
        lines.append(f"left what {report.unreadable:,} unreadable records may name; `verify` lists them")
    if report.keys and not deleted:
        lines.append("dry run: --delete deletes them")
    table: list[RenderableType] = [_table(("section", "objects"), rows), ""] if rows else []
    return Group(*table, *lines)


def catalog_view(report: CatalogReport) -> RenderableType:
    """The changes by an update of the catalog, and the table's place."""
    lines = [f"{report.rows:,} clips in {report.uri}: {report.added:,} are new, {report.removed:,} are gone"]
    if report.unreadable:
        lines.append(f"{report.unreadable:,} commits cannot be read and are left out; `verify` names them")
    return Group(*lines)


# One thing


class _Found:
    """The only entry whose id begins with some digits, and the keys of its records."""

    def __init__(self, store: LatentStore, start: str) -> None:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)  # by id and kind
        for section, kinds in _KINDS.items():
            for key in store.record_keys(f"{section}/"):
                for kind, name in zip(kinds, key.removesuffix(".json").split("/")[1:], strict=True):
                    if kind and name.startswith(start):
                        found[name, kind].append(key)
        names = sorted({name for name, _ in found})
        if not names:
            raise DataError(f"{store.uri}: nothing has the id or name {start}; `ls` lists the content")
        if len(names) > 1:
            listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
            raise DataError(f"{store.uri}: {len(names)} ids begin with {start}, give more digits: {listed}")
        [self.name] = names
        self.kind = min((kind for _, kind in found), key=lambda kind: kind == "failure")
        self.keys = found[self.name, self.kind]


def _inversion_view(store: LatentStore, found: _Found) -> RenderableType:
    records = list(store.records(CommitRecord, found.keys))
    first = records[0]
    overview = _grid(
        ("inversion", found.name),
        ("generator", first.generator_sha256),
        ("encoder", first.encoder_sha256),
        ("latents", f"{first.num_ws} × {first.w_dim}"),
        ("footage", _footage([(record.frames, record.frame_rate_hz) for record in records])),
    )
    subjects: dict[str, list[CommitRecord]] = defaultdict(list)
    for record in records:
        subjects[record.subject].append(record)
    rows = [
        (subject, f"{len(own):,}", f"{sum(r.frames for r in own):,}", _error([r.mean_error for r in own]))
        for subject, own in sorted(subjects.items())
    ]
    table = _table(("subject", "clips", "frames", "mean error"), rows)
    return Group(overview, "", table, *_failures(store.failures(found.name).values()))


def _tracking_view(store: LatentStore, found: _Found) -> RenderableType:
    records = list(store.records(TrackRecord, found.keys))
    overview = _grid(
        ("tracking", found.name),
        ("parameters", _parameters(records[0])),
        ("footage", _footage([(record.frame_count, record.frame_rate_hz) for record in records])),
    )
    rows = [
        (r.video_id[:12], r.subject, f"{len(r.clips):,}", f"{r.frame_count:,}", f"{_skipped(r):,}", r.uri)
        for r in records
    ]
    table = _table(("video", "subject", "clips", "frames", "skipped", "file"), rows)
    return Group(overview, "", table, *_failures(store.failures(found.name).values()))


def _parameters(record: TrackRecord) -> str:
    return ", ".join(f"{name} {value}" for name, value in record.parameters.items() if name != PARAMETER)


def _video_view(store: LatentStore, found: _Found) -> RenderableType:
    parts: list[RenderableType] = []
    for record in store.records(TrackRecord, found.keys):
        overview = _grid(
            ("video", record.video_id),
            ("file", record.uri),
            ("subject", record.subject),
            ("tracking", record.tracking_id),
            ("picture", f"{record.width} × {record.height}, read with {record.decoder}"),
            ("footage", _footage([(record.frame_count, record.frame_rate_hz)])),
            *(("note", sentence) for sentence in facts_of(record.parameters).sentences()),
        )
        spans = [(c.first_frame, c.stop_frame, c.clip_id) for c in record.clips]
        spans += [(s.first_frame, s.stop_frame, f"skipped: {s.reason}") for s in record.skipped]
        rows = [(f"{first:,} to {stop - 1:,}", what) for first, stop, what in sorted(spans)]
        parts += [overview, "", _table(("frames", "clip"), rows), ""]
    return Group(*parts[:-1])


def _clip_view(store: LatentStore, found: _Found) -> RenderableType:
    parts: list[RenderableType] = []
    for record in store.records(CommitRecord, found.keys):
        overview = _grid(
            ("clip", record.clip_id),
            ("video", record.video_id),
            ("frames", f"{record.first_frame:,} to {record.stop_frame - 1:,}"),
            ("subject", record.subject),
            ("inversion", record.inversion_id),
            ("latents", f"{record.num_ws} × {record.w_dim}{_precision(record)}"),
            ("mean error", _error([record.mean_error])),
            ("made on", record.node),
        )
        rows = [(f"{c.frames:,}", decimal(c.size_bytes), c.sha256[:12]) for c in record.chunks]
        parts += [overview, "", _table(("frames", "size", "sha256"), rows), ""]
    return Group(*parts[:-1])


def _failure_view(store: LatentStore, found: _Found) -> RenderableType:
    return Group(*_failures(store.records(FailureRecord, found.keys))[1:])


_VIEWS: dict[str, Callable[[LatentStore, _Found], RenderableType]] = {
    "inversion": _inversion_view,
    "tracking": _tracking_view,
    "video": _video_view,
    "clip": _clip_view,
    "failure": _failure_view,
}


# Parts


def _model(store: LatentStore, name: str) -> ModelManifest | None:
    if name not in store.model_names():
        return None
    return store.record(ModelManifest, keys.model_manifest(name))


def _failures(records: Iterable[FailureRecord]) -> list[RenderableType]:
    """A table of failures after an empty line; nothing if there are none."""
    rows = [(r.item_id[:12], f"{r.stage}: {r.reason}", str(r.attempts), r.message, r.uri) for r in records]
    return ["", _table(("failed", "reason", "attempts", "message", "file"), rows)] if rows else []


def _skipped(record: TrackRecord) -> int:
    return sum(span.stop_frame - span.first_frame for span in record.skipped)


def _precision(record: CommitRecord) -> str:
    psnr_db = record.float16_psnr_db
    return "" if psnr_db is None else f" in float16, whose pictures keep {psnr_db:.1f} dB"


def _error(errors: Iterable[float | None]) -> str:
    known = [error for error in errors if error is not None]
    return f"{sum(known) / len(known):.4f}" if known else "not measured"


def _footage(spans: Sequence[tuple[int, float]]) -> str:
    """The sum of spans, each given by its frames and its frame rate."""
    seconds = sum(frames / frame_rate_hz for frames, frame_rate_hz in spans)
    length = f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds:,.1f} s"
    return f"{sum(frames for frames, _ in spans):,} frames, {length}"


def _counts(records: Counter[str], failed: Counter[str] | None = None) -> list[tuple[str, ...]]:
    columns = [records] if failed is None else [records, failed]
    return [(name, *(f"{column[name]:,}" for column in columns)) for name in sorted(records)]


def _grid(*rows: tuple[str, str]) -> Table:
    """A table of names and values that never cuts values."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows[:_ROWS]:
        table.add_row(*row)
    if len(rows) > _ROWS:
        table.add_row(f"and {len(rows) - _ROWS:,} more")
    return table
