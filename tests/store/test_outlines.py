"""A listing tells of every track what its record tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svgan_ray.store import ClipRecord, LatentStore, TrackRecord, keys, open_store
from svgan_ray.store.outlines import TrackOutline, outline_of
from tests.store.memory import MemoryBackend
from tests.store.samples import TRACKING, VIDEO, track_record, track_tensors


class Reads(MemoryBackend):
    """Remembers which objects were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str, first_byte: int = 0, stop_byte: int | None = None) -> bytes:
        self.read.append(key)
        return super().get(key, first_byte, stop_byte)


def tracked(spans: list[tuple[int, int]], subject: str = "anna", video: str = VIDEO) -> TrackRecord:
    clips = (ClipRecord(keys.clip_id(video, TRACKING, *span), *span) for span in spans)
    return replace(track_record(tuple(clips)), video_id=video, subject=subject)


@pytest.fixture
def store() -> LatentStore:
    return LatentStore(Reads(), "memory")


def outlines(store: LatentStore) -> tuple[dict[str, TrackOutline], list[str]]:
    """What the listing tells, and what was read for it."""
    assert isinstance(store.backend, Reads)
    store.backend.read.clear()
    return store.track_outlines(TRACKING), store.backend.read


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[int, int]]:
    frames = sorted(draw(st.sets(st.integers(0, 10**6), max_size=80)))
    return list(zip(frames[::2], frames[1::2], strict=False))


@given(st.lists(cuts(), min_size=1, max_size=4), st.text(max_size=50), st.text(max_size=50))
def test_a_listing_tells_what_the_records_tell(
    videos: list[list[tuple[int, int]]], subject: str, other: str
) -> None:
    store = LatentStore(Reads(), "memory")
    records = [tracked(spans, subject, f"{n:064x}") for n, spans in enumerate(videos)]
    for record in records:
        store.put_track(record, track_tensors())
    found, read = outlines(store)
    assert found == {record.video_id: outline_of(record) for record in records}
    assert set(read) <= {keys.track(TRACKING, r.video_id) for r in records if len(r.clips) > 7}
    assert all(outline.shows(subject) for outline in found.values())
    assert all(outline.shows(other) == (subject == other) for outline in found.values())


def test_a_loser_of_a_race_makes_the_record_be_read(store: LatentStore) -> None:
    store.put_track(tracked([(0, 6)]), track_tensors())
    store.put_track(tracked([(0, 6)]), track_tensors(1.0))  # other quads, the same clips
    assert outlines(store) == ({VIDEO: outline_of(tracked([(0, 6)]))}, [])
    store.put_track(tracked([(0, 5)]), track_tensors())
    found, read = outlines(store)
    assert found == {VIDEO: outline_of(tracked([(0, 6)]))} and read == [keys.track(TRACKING, VIDEO)]


def test_without_a_record_there_is_no_track(store: LatentStore) -> None:
    """A writer that was killed in between has tracked nothing."""
    store.put_track(tracked([(0, 6)]), track_tensors())
    store.backend.delete(keys.track(TRACKING, VIDEO))
    assert outlines(store) == ({}, [])


@pytest.mark.parametrize("place", ["folder", "moto"])
def test_outlines_over_real_places(store_uri: str) -> None:
    store = open_store(store_uri, create=True)
    record = tracked([(0, 6), (7, 20)])
    store.put_track(record, track_tensors())
    assert store.track_outlines(TRACKING) == {VIDEO: outline_of(record)}
