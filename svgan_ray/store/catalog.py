"""A table with one row for each committed clip, which other programs can read without knowing the store.

    catalog/parts/<sha256>.parquet     rows of commits that were new when the part was written; never changed
    catalog/catalog.parquet            all parts merged, without deleted commits: the same clips as a listing

An update lists the store once and reads only the commits that are in no part yet. If there are many parts,
they are joined into one. Deleting a catalog loses nothing, because it can be made again from the commits.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from svgan_ray.errors import CorruptObjectError
from svgan_ray.store import codec, keys
from svgan_ray.store.backend import Entry, ObjectNotFoundError
from svgan_ray.store.latent_store import LatentStore
from svgan_ray.store.objects import OnProgress, in_threads, unwatched, watched
from svgan_ray.store.records import CommitRecord

__all__ = ["CatalogReport", "update_catalog"]

PART_ROWS = 50_000
"""The most rows of a part, so that memory does not grow with the number of new commits."""
MOST_PARTS = 64
"""More parts than this are joined into one."""
_VIDEOS_REMEMBERED = 10_000


@dataclass(frozen=True)
class CatalogReport:
    """The result of an update of the catalog."""

    rows: int
    added: int
    removed: int
    """Rows of earlier catalogs whose commits were deleted or made again."""
    unreadable: int
    """Commits that could not be read; `verify` names them."""
    uri: str
    """The place of the merged table."""


def update_catalog(store: LatentStore, on_progress: OnProgress = unwatched) -> CatalogReport:
    """Bring the catalog up to date and write the merged table. Progress counts the new commits.

    Raises StoreError if the store cannot be read or written.
    """
    listed = {_commit_of(entry): entry for entry in store.backend.list("commits/") if _is_record(entry)}
    parts = {key: table for key in _part_keys(store) if (table := _read_part(store, key)) is not None}
    known = {row for table in parts.values() for row in _versions(table)}
    new = [entry for commit, entry in listed.items() if (*commit, _modified_us(entry)) not in known]
    rows = watched(_rows(store, new), on_progress, len(new))
    unreadable = 0
    while batch := list(islice(rows, PART_ROWS)):
        found = [row for row in batch if row is not None]
        unreadable += len(batch) - len(found)
        if found:
            table = _table(found)
            parts[_put_part(store, table)] = table
    current = {(*commit, _modified_us(entry)) for commit, entry in listed.items()}
    merged = _merged(list(parts.values()), current)
    store.backend.put(keys.CATALOG, _encoded(merged))
    if len(parts) > MOST_PARTS:
        _join_parts(store, list(parts), merged)
    before = len(known)
    return CatalogReport(
        rows=merged.num_rows,
        added=len(new) - unreadable,
        removed=before + len(new) - unreadable - merged.num_rows,
        unreadable=unreadable,
        uri=f"{store.uri}/{keys.CATALOG}",
    )


def _is_record(entry: Entry) -> bool:
    return entry.key.endswith(".json")


def _commit_of(entry: Entry) -> tuple[str, str]:
    return keys.inversion_and_clip(entry.key)


def _modified_us(entry: Entry) -> int:
    """When a commit was written, in whole microseconds; a commit that was made again has another time."""
    return round(entry.modified_s * 1e6)


def _rows(store: LatentStore, entries: list[Entry]) -> Iterator[dict[str, Any] | None]:
    """The rows of some commits, read in threads; None for a commit that was deleted or is damaged."""

    @lru_cache(_VIDEOS_REMEMBERED)
    def uri_of(tracking_id: str, video_id: str) -> str | None:
        try:
            track = store.get_track(tracking_id, video_id)
        except CorruptObjectError:
            return None
        return track.uri if track else None

    def row(entry: Entry) -> dict[str, Any] | None:
        try:
            record = store.record(CommitRecord, entry.key)
        except CorruptObjectError:
            return None
        return None if record is None else _row(record, uri_of(record.tracking_id, record.video_id), entry)

    return in_threads(row, entries)


def _row(record: CommitRecord, uri: str | None, entry: Entry) -> dict[str, Any]:
    return {
        "inversion_id": record.inversion_id,
        "clip_id": record.clip_id,
        "subject": record.subject,
        "video_id": record.video_id,
        "uri": uri,
        "tracking_id": record.tracking_id,
        "first_frame": record.first_frame,
        "stop_frame": record.stop_frame,
        "frame_rate_hz": record.frame_rate_hz,
        "mean_error": record.mean_error,
        "generator_sha256": record.generator_sha256,
        "encoder_sha256": record.encoder_sha256,
        "work_sha256": record.work_sha256,
        "size_bytes": sum(chunk.size_bytes for chunk in record.chunks),
        "committed_us": _modified_us(entry),
    }


def _schema() -> Any:
    import pyarrow as pa

    text = ("inversion_id", "clip_id", "subject", "video_id", "uri", "tracking_id")
    hashes = ("generator_sha256", "encoder_sha256", "work_sha256")
    return pa.schema(
        [
            *((name, pa.string()) for name in text),
            ("first_frame", pa.int64()),
            ("stop_frame", pa.int64()),
            ("frame_rate_hz", pa.float64()),
            ("mean_error", pa.float64()),
            *((name, pa.string()) for name in hashes),
            ("size_bytes", pa.int64()),
            ("committed_us", pa.int64()),
        ]
    )


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())


def _versions(table: Any) -> Iterator[tuple[str, str, int]]:
    """The identity of each row's commit: its inversion, its clip, and when it was written."""
    columns = (table[name].to_pylist() for name in ("inversion_id", "clip_id", "committed_us"))
    return zip(*columns, strict=True)


def _merged(tables: list[Any], current: set[tuple[str, str, int]]) -> Any:
    """The rows of all parts whose commits still exist, each once, in the order of a listing."""
    import pyarrow as pa

    together = pa.concat_tables(tables) if tables else _table([])
    chosen = {version: number for number, version in enumerate(_versions(together)) if version in current}
    return together.take(pa.array([chosen[version] for version in sorted(chosen)], pa.int64()))


def _encoded(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _part_keys(store: LatentStore) -> list[str]:
    return [entry.key for entry in store.backend.list(keys.CATALOG_PARTS)]


def _put_part(store: LatentStore, table: Any) -> str:
    data = _encoded(table)
    key = keys.catalog_part(codec.sha256_of(data))
    store.backend.put_if_absent(key, data)
    return key


def _read_part(store: LatentStore, key: str) -> Any:
    """A part's table; None if it was joined meanwhile or is damaged, then its commits are read again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = store.backend.get(key)
    except ObjectNotFoundError:
        return None
    if codec.sha256_of(data) != keys.stem(key):
        return None
    table = pq.read_table(pa.BufferReader(data))
    return table if table.schema.equals(_schema()) else None


def _join_parts(store: LatentStore, part_keys: list[str], merged: Any) -> None:
    joined = _put_part(store, merged)
    for key in part_keys:
        if key != joined:
            store.backend.delete(key)
