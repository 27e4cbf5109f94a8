"""The catalog is the listing of commits as a table, whatever came, went or was damaged in between."""

from __future__ import annotations

import io
from pathlib import Path

import pandas
import pytest

from svgan_ray.store import LatentStore, keys
from svgan_ray.store import catalog as catalog_module
from svgan_ray.store.catalog import update_catalog
from svgan_ray.store.verification import repair, verify
from tests.store.conftest import S3_PLACES
from tests.store.samples import CLIP, INVERSION, put_clip, track_record, track_tensors

CLIPS = [CLIP, *(f"{number:02x}" * 16 for number in range(1, 5))]


@pytest.fixture(params=["folder", *S3_PLACES])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rows_of(store: LatentStore) -> pandas.DataFrame:
    return pandas.read_parquet(io.BytesIO(store.backend.get(keys.CATALOG)))


def test_a_row_tells_a_clip_s_origin_and_content(store: LatentStore) -> None:
    store.put_track(track_record(), track_tensors())
    record = put_clip(store)

    report = update_catalog(store)

    [row] = rows_of(store).to_dict("records")
    assert (report.rows, report.added, report.removed, report.unreadable) == (1, 1, 0, 0)
    assert (row["clip_id"], row["subject"], row["uri"]) == (CLIP, "anna", "/footage/anna.mp4")
    assert (row["first_frame"], row["stop_frame"], row["frame_rate_hz"]) == (0, 6, 25.0)
    assert (row["work_sha256"], row["mean_error"]) == (record.work_sha256, 0.25)
    assert row["size_bytes"] == sum(chunk.size_bytes for chunk in record.chunks)


def test_only_new_commits_are_read(store: LatentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for clip in CLIPS[:3]:
        put_clip(store, clip)
    update_catalog(store)
    put_clip(store, CLIPS[3])
    read: list[str] = []
    record_of = store.record
    monkeypatch.setattr(store, "record", lambda cls, key: read.append(key) or record_of(cls, key))

    report = update_catalog(store)

    assert [key for key in read if key.startswith("commits/")] == [keys.commit(INVERSION, CLIPS[3])]
    assert (report.rows, report.added) == (4, 1)
    assert sorted(rows_of(store)["clip_id"]) == sorted(CLIPS[:4])


def test_it_equals_the_listing_after_clips_went(store: LatentStore) -> None:
    for clip in CLIPS:
        put_clip(store, clip)
    update_catalog(store)
    store.backend.delete(keys.commit(INVERSION, CLIPS[1]))

    report = update_catalog(store)

    assert (report.rows, report.added, report.removed) == (4, 0, 1)
    assert set(rows_of(store)["clip_id"]) == store.committed_ids(INVERSION)


def test_a_damaged_commit_is_left_out_and_told(store: LatentStore) -> None:
    put_clip(store)
    store.backend.put(keys.commit(INVERSION, CLIPS[1]), b"{")

    report = update_catalog(store)

    assert (report.rows, report.unreadable) == (1, 1)


def test_many_parts_are_joined(store: LatentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MOST_PARTS", 2)
    for clip in CLIPS:
        put_clip(store, clip)
        update_catalog(store)

    parts = [entry.key for entry in store.backend.list(keys.CATALOG_PARTS)]
    assert len(parts) <= 2 and set(rows_of(store)["clip_id"]) == set(CLIPS)


def test_a_damaged_part_is_found_and_made_again(store: LatentStore) -> None:
    put_clip(store)
    update_catalog(store)
    [part] = [entry.key for entry in store.backend.list(keys.CATALOG_PARTS)]
    whole = store.backend.get(part)
    store.backend.put(part, whole[:-1] + b"x")

    report = verify(store, deep=True)
    assert [problem.key for problem in report.problems] == [part]
    assert update_catalog(store).rows == 1  # nothing is taken from the damaged part
    repair(store, report)
    assert update_catalog(store).rows == 1 and store.backend.get(part) == whole
    assert verify(store, deep=True).problems == []


def test_two_lines_of_pandas_read_it(tmp_path: Path) -> None:
    from svgan_ray.store import open_store

    store = open_store(tmp_path / "store", create=True)
    put_clip(store)
    update_catalog(store)

    document = (Path(__file__).parents[2] / "docs" / "store.md").read_text("utf-8")
    lines = [line for line in document.splitlines() if "read_parquet" in line or "clips.groupby" in line]
    names: dict[str, object] = {"pandas": pandas}
    for line in lines:
        exec(line.replace('"store/', f'"{tmp_path}/store/'), names)
    assert len(lines) == 2 and names["hours"].to_dict() == {"anna": 6 / 25 / 3600}  # type: ignore[attr-defined]
