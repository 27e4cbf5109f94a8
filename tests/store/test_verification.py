"""Verification finds every damage, and its repair lets the next run make all again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.errors import StoreError
from svgan_ray.store import CommitRecord, LatentStore, keys, select
from svgan_ray.store.collection import collect
from svgan_ray.store.records import StoreMarker
from svgan_ray.store.verification import Problem, repair, verify
from tests.store.memory import MemoryBackend
from tests.store.samples import (
    CLIP,
    INVERSION,
    TRACKING,
    VIDEO,
    commit_record,
    failure_record,
    put_chunks,
    put_clip,
    track_landmarks,
    track_record,
    track_tensors,
)

MARKER_BYTES = len(StoreMarker().to_json())


def filled_store(folder: Path) -> LatentStore:
    """A store in memory with an object of every kind."""
    store = LatentStore(MemoryBackend(), "memory")
    store.backend.put(keys.MARKER, StoreMarker().to_json())
    store.put_source("/footage/anna.mp4", 10, "1", VIDEO)
    store.put_track(track_record(), track_tensors(), track_landmarks())
    put_clip(store)
    store.put_failure(INVERSION, failure_record("99" * 16))
    store.put_basis("basis", {"mean": torch.arange(6.0)})
    store.put_snapshot(select(store, "anna", INVERSION))
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    store.put_model(folder / "model", "anna")
    return store


@pytest.fixture
def store(tmp_path: Path) -> LatentStore:
    return filled_store(tmp_path)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return filled_store(tmp_path_factory.mktemp("store"))


def test_a_sound_store_has_no_problems(store: LatentStore) -> None:
    for deep in (False, True):
        report = verify(store, deep)
        assert report.problems == []
        assert report.objects == 13
        assert report.size_bytes == sum(usage.size_bytes for usage in store.usage().values()) + MARKER_BYTES


@settings(max_examples=150)
@given(st.data())
def test_every_flipped_bit_is_found(shared_store: LatentStore, data: st.DataObject) -> None:
    objects = shared_store.backend.objects  # type: ignore[attr-defined]
    key = data.draw(st.sampled_from(sorted(key for key, (content, _) in objects.items() if content)))
    content, modified_s = objects[key]
    damaged = bytearray(content)
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    objects[key] = (bytes(damaged), modified_s)
    try:
        assert key in [problem.key for problem in verify(shared_store, deep=True).problems]
    finally:
        objects[key] = (content, modified_s)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content + b"x", lambda content: b""]
)
def test_every_object_that_lost_or_gained_bytes_is_found(
    store: LatentStore, damage: Callable[[bytes], bytes]
) -> None:
    for entry in list(store.backend.list("")):
        if entry.size_bytes:
            content = store.backend.get(entry.key)
            store.backend.put(entry.key, damage(content))
            assert entry.key in [problem.key for problem in verify(store, deep=True).problems]
            store.backend.put(entry.key, content)
    assert verify(store, deep=True).problems == []


def test_what_a_listing_shows_is_found_without_reading_it(store: LatentStore) -> None:
    first, second = put_chunks(store)
    store.backend.delete(first.key)
    store.backend.put(second.key, b"short")
    commit = keys.commit(INVERSION, CLIP)
    assert verify(store).problems == [
        Problem(first.key, f"missing, but named by {commit}", (commit,)),
        Problem(second.key, f"has 5 bytes, expected {second.size_bytes:,}", (commit, second.key)),
    ]


def make_again(store: LatentStore) -> None:
    """What the next inversion does with the clip and its track."""
    if store.get_track(TRACKING, VIDEO) is None:
        store.put_track(track_record(), track_tensors())
    if CLIP not in store.committed_ids(INVERSION):
        store.commit(commit_record(put_chunks(store)))
    store.put_basis("basis", {"mean": torch.arange(6.0)})


@pytest.mark.parametrize("section", ["tracks", "chunks", "commits", "failures", "bases"])
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_repair_lets_the_next_run_make_all_again(store: LatentStore, section: str, damage: str) -> None:
    for entry in list(store.backend.list(f"{section}/")):
        content = bytearray(store.backend.get(entry.key))
        content[-2] ^= 8
        if damage == "flip":
            store.backend.put(entry.key, bytes(content))
        else:
            store.backend.delete(entry.key)
        doomed = repair(store, verify(store, deep=True))
        assert damage == "delete" or entry.key in doomed
        make_again(store)
        assert verify(store, deep=True).problems == []
        assert len(list(store.snapshot_clips(select(store, "x", INVERSION)))) == 1


def test_snapshots_and_models_are_for_people_to_mend(store: LatentStore) -> None:
    snapshot = keys.snapshot("anna", 1)
    [weights] = [entry.key for entry in store.backend.list("models/anna/files/")]
    for key in (snapshot, weights, keys.MARKER):
        store.backend.put(key, b"damaged")
    report = verify(store, deep=True)
    assert {problem.key for problem in report.problems} == {snapshot, weights, keys.MARKER}
    assert repair(store, report) == []


def test_a_snapshot_of_other_latents_is_found(store: LatentStore) -> None:
    store.backend.delete(keys.commit(INVERSION, CLIP))
    [gone] = verify(store).problems
    assert gone.key == keys.snapshot("anna", 1) and f"names clip {CLIP}" in gone.fault
    put_clip(store)
    assert verify(store).problems == []
    record = store.get_commit(INVERSION, CLIP)
    assert record is not None
    other = replace(record, chunks=tuple(put_chunks(store, variant=1)))
    store.backend.put(keys.commit(INVERSION, CLIP), other.to_json())
    assert [problem.key for problem in verify(store).problems] == [keys.snapshot("anna", 1)]


def test_foreign_objects_and_newer_records_are_shown_and_left(
    store: LatentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.backend.put("chunks/notes.txt", b"")
    with monkeypatch.context() as newer:
        newer.setattr("svgan_ray.store.records.SCHEMA", 2)
        store.put_failure(INVERSION, failure_record("88" * 16))
    report = verify(store)
    assert [problem.key for problem in report.problems] == [
        keys.failure(INVERSION, "88" * 16),
        "chunks/notes.txt",
    ]
    assert repair(store, report) == []


def test_what_is_committed_while_the_listing_passes_is_no_problem(store: LatentStore) -> None:
    backend = store.backend
    listing = list(backend.list(""))
    new = put_clip(store, "44" * 16)
    late = [entry for entry in backend.list("") if entry.key.startswith("commits/")]
    stale = [entry for entry in listing if not entry.key.startswith("commits/")] + late
    backend.list = lambda prefix: iter(stale)  # type: ignore[method-assign]
    assert isinstance(new, CommitRecord)
    assert verify(store, deep=True).problems == []


def test_a_repair_waits_for_no_collector(store: LatentStore) -> None:
    report = verify(store)
    with store.exclusive():
        with pytest.raises(StoreError, match="has been collecting garbage or repairing since"):
            repair(store, report)
        with pytest.raises(StoreError, match="break its lock"):
            collect(store, dry_run=False)
        assert collect(store).keys == ()  # a dry run may
    assert repair(store, report) == []
