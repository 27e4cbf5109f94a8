"""Garbage collection: it deletes content that no record names and that no writer has touched for days.

A killed writer leaves chunks without a commit, and the loser of a race leaves chunks beside the winner's.
They are deleted when they are older than the grace period. No writer can be about to commit them: content is
never overwritten, so it only gets older, and a writer never names content older than objects.FRESH_S (it
stores a copy first). Only one collector or repair runs at a time, because a second one could delete content
that was deleted and written again in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, groupby

from svgan_ray.errors import CorruptObjectError, StoreSchemaError
from svgan_ray.store import keys
from svgan_ray.store.backend import Entry
from svgan_ray.store.latent_store import LatentStore
from svgan_ray.store.objects import OnProgress, in_threads, unwatched, watched
from svgan_ray.store.records import Snapshot, record_type

__all__ = ["GRACE_S", "CollectionReport", "collect"]

GRACE_S = 7 * 86_400.0
"""The grace period; unnamed content younger than this may belong to a writer that is still working."""


@dataclass(frozen=True)
class CollectionReport:
    """The content that was deleted (in a dry run: would be deleted), and counts of what was left."""

    keys: tuple[str, ...] = ()
    size_bytes: int = 0
    young: int = 0  # unnamed objects that are younger than the grace period
    unreadable: int = 0  # owners that cannot be read, so that nobody knows which content they name


def collect(
    store: LatentStore,
    dry_run: bool = True,
    grace_s: float = GRACE_S,
    break_lock: bool = False,
    on_progress: OnProgress = unwatched,
) -> CollectionReport:
    """Delete content that no record names and that is older than the grace period.

    A grace period below the default is safe only while nobody writes. Progress counts clips, tracks and
    models.

    Raises StoreError if another collector is running, and CorruptObjectError or StoreSchemaError if a
    snapshot cannot be read, because such a snapshot may name any content.
    """
    with nullcontext() if dry_run else store.exclusive(break_lock):
        collector = _Collector(store, dry_run, time.time() - grace_s, _held(store))
        owned = in_threads(collector.owned, _content_by_owner(store))
        reports = [collector.half_written(), *watched(owned, on_progress)]
    return CollectionReport(
        tuple(key for report in reports for key in report.keys),
        sum(report.size_bytes for report in reports),
        sum(report.young for report in reports),
        sum(report.unreadable for report in reports),
    )


def _held(store: LatentStore) -> set[str]:
    """The keys of all commits whose clips are in a snapshot."""
    snapshots = store.records(Snapshot, store.record_keys("snapshots/"))
    return {keys.commit(s.inversion_id, clip.clip_id) for s in snapshots for clip in s.clips}


def _content_by_owner(store: LatentStore) -> Iterator[tuple[str, list[Entry]]]:
    entries = chain.from_iterable(store.backend.list(prefix) for prefix in ("tracks/", "chunks/", "models/"))
    owned = ((owner, entry) for entry in entries if (owner := keys.owner(entry.key)) is not None)
    for owner, pairs in groupby(owned, lambda pair: pair[0]):
        yield owner, [entry for _, entry in pairs]


@dataclass(frozen=True)
class _Collector:
    store: LatentStore
    dry_run: bool
    before_s: float
    held: set[str]

    def half_written(self) -> CollectionReport:
        """Collect the temporary files of killed writers."""
        entries = list(self.store.backend.list(keys.TEMPORARY))
        old = [entry for entry in entries if entry.modified_s < self.before_s]
        if not self.dry_run:
            for entry in old:
                self.store.backend.delete(entry.key)
        return _report(old, len(entries) - len(old))

    def owned(self, group: tuple[str, list[Entry]]) -> CollectionReport:
        """Collect the content that belongs to one owner and that the owner does not name."""
        owner, content = group
        try:
            named = self._named(owner)
        except (CorruptObjectError, StoreSchemaError):
            return CollectionReport(unreadable=1)
        unnamed = [entry for entry in content if entry.key not in named]
        old = [entry for entry in unnamed if entry.modified_s < self.before_s]
        young = len(unnamed) - len(old)
        if owner in self.held and not named:
            return CollectionReport()
        taken = old if self.dry_run else [entry for entry in old if self._deleted(owner, entry.key)]
        return _report(taken, young)

    def _named(self, owner: str) -> set[str]:
        """The keys that an owner names."""
        cls = record_type(owner)
        record = self.store.record(cls, owner) if cls else None
        return {ref.key for ref in record.objects()} if record else set()

    def _deleted(self, owner: str, key: str) -> bool:
        """Check again that an object is old and that its owner does not name it; if so, delete it."""
        entry = self.store.backend.stat(key)
        if entry is None or entry.modified_s >= self.before_s or key in self._named(owner):
            return False
        self.store.backend.delete(key)
        return True


def _report(entries: list[Entry], young: int) -> CollectionReport:
    return CollectionReport(tuple(e.key for e in entries), sum(e.size_bytes for e in entries), young)
