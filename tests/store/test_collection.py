"""A collector takes what nothing names, old enough, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from svgan_ray.errors import CorruptObjectError
from svgan_ray.store import LatentStore, keys, open_store, select
from svgan_ray.store.backend import Entry
from svgan_ray.store.collection import GRACE_S, collect
from svgan_ray.store.verification import verify
from tests.store.actors import DAY_S, Actor, Clock, simulated
from tests.store.conftest import S3_PLACES
from tests.store.memory import MemoryBackend
from tests.store.samples import (
    CLIP,
    INVERSION,
    commit_record,
    put_chunks,
    put_clip,
    track_landmarks,
    track_record,
    track_tensors,
)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with simulated(clock):
        yield clock


@pytest.fixture
def old_store(clock: Clock) -> LatentStore:
    """Everything in it will be eight days old."""
    return LatentStore(MemoryBackend(clock.time), "memory")


def in_store(store: LatentStore) -> set[str]:
    return {entry.key for entry in store.backend.list("")}


def test_the_grace_is_seven_days(old_store: LatentStore, clock: Clock) -> None:
    chunks = put_chunks(old_store)
    clock.now_s += GRACE_S - 1
    report = collect(old_store, dry_run=False)
    assert (report.keys, report.size_bytes, report.young) == ((), 0, 2)
    clock.now_s += 2
    dry = collect(old_store)
    assert set(dry.keys) == {chunk.key for chunk in chunks} == in_store(old_store)
    assert dry.size_bytes == sum(chunk.size_bytes for chunk in chunks)
    assert collect(old_store, dry_run=False) == dry
    assert in_store(old_store) == set()


def test_named_content_stays_and_what_lies_beside_it_goes(
    old_store: LatentStore, clock: Clock, tmp_path: Path
) -> None:
    put_clip(old_store)
    old_store.put_track(track_record(), track_tensors(), track_landmarks())
    (tmp_path / "weights").write_bytes(b"1")
    old_store.put_model(tmp_path, "anna")
    named = in_store(old_store)
    put_chunks(old_store, variant=1)
    old_store.put_track(track_record(), track_tensors(1.0), track_landmarks(1.0))
    (tmp_path / "weights").write_bytes(b"2")
    with pytest.raises(Exception, match="choose another name"):
        old_store.put_model(tmp_path, "anna")
    beside = in_store(old_store) - named
    clock.now_s += GRACE_S + DAY_S
    assert set(collect(old_store, dry_run=False).keys) == beside
    assert len(beside) == 5 and in_store(old_store) == named
    assert verify(old_store, deep=True).problems == []


def test_what_a_snapshot_names_stays_even_without_its_commit(old_store: LatentStore, clock: Clock) -> None:
    put_clip(old_store)
    old_store.put_snapshot(select(old_store, "anna", INVERSION))
    old_store.backend.delete(keys.commit(INVERSION, CLIP))
    clock.now_s += GRACE_S + DAY_S
    assert collect(old_store, dry_run=False).keys == ()
    assert old_store.commit(commit_record(put_chunks(old_store)))


def test_nothing_is_taken_on_the_word_of_a_damaged_record(old_store: LatentStore, clock: Clock) -> None:
    put_clip(old_store)
    old_store.backend.put(keys.commit(INVERSION, CLIP), b"damaged")
    clock.now_s += GRACE_S + DAY_S
    report = collect(old_store, dry_run=False)
    assert (report.keys, report.unreadable) == ((), 1)
    old_store.backend.put(keys.snapshot("anna", 1), b"damaged")
    with pytest.raises(CorruptObjectError, match="snapshots/anna"):
        collect(old_store, dry_run=False)


def test_foreign_objects_are_left_alone(old_store: LatentStore, clock: Clock) -> None:
    foreign = ("chunks/notes.txt", "tracks/x/y.safetensors", "models/readme.md", "other/a")
    for key in foreign:
        old_store.backend.put(key, b"")
    clock.now_s += GRACE_S + DAY_S
    collect(old_store, dry_run=False)
    assert in_store(old_store) == set(foreign)


def test_a_second_look_saves_what_came_back(old_store: LatentStore, clock: Clock) -> None:
    """A lock was broken in error: one collector has listed what another takes and a writer makes anew."""
    chunks = put_chunks(old_store)
    clock.now_s += GRACE_S + DAY_S
    with Actor("slow", old_store.backend, partial(collect, dry_run=False)) as slow:
        for _ in range(8):  # the lock, the listings, and a first look at the owner
            assert slow.step()
        assert len(collect(old_store, dry_run=False, break_lock=True).keys) == 2
        assert put_clip(old_store).chunks == tuple(chunks)
        slow.finish()
    assert old_store.read_clip(INVERSION, CLIP).frames == 6


def test_a_second_look_saves_what_is_named_by_now(old_store: LatentStore, clock: Clock) -> None:
    """Of a writer that stalled for longer than the grace, which the store does not even promise."""
    chunks = put_chunks(old_store)
    clock.now_s += GRACE_S + DAY_S
    with Actor("slow", old_store.backend, partial(collect, dry_run=False)) as slow:
        for _ in range(8):  # the lock, the listings, and a first look at the owner
            assert slow.step()
        old_store.put_once(keys.commit(INVERSION, CLIP), commit_record(chunks))
        slow.finish()
    assert old_store.read_clip(INVERSION, CLIP).frames == 6


def test_temporary_files_of_killed_writers_go(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    put_clip(store)
    old, young = (tmp_path / keys.TEMPORARY / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    long_ago_s = time.time() - GRACE_S - DAY_S
    os.utime(old, (long_ago_s, long_ago_s))
    assert verify(store, deep=True).problems == []
    report = collect(store, dry_run=False)
    assert (report.keys, report.young) == ((f"{keys.TEMPORARY}old",), 1)
    assert young.exists() and not old.exists()


@pytest.mark.parametrize("place", ["folder", *S3_PLACES])
def test_collection_everywhere(store: LatentStore) -> None:
    named = {chunk.key for chunk in put_clip(store).chunks}
    beside = {chunk.key for chunk in put_chunks(store, variant=1)}
    assert collect(store, dry_run=False).young == 2
    time.sleep(1.1)  # S3 tells whole seconds
    assert set(collect(store, dry_run=False, grace_s=0).keys) == beside
    listed: list[Entry] = list(store.backend.list("chunks/"))
    assert {entry.key for entry in listed} == named
    assert store.backend.stat(keys.LOCK) is None
