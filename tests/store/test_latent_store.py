"""What a store promises, over a folder, moto, and a real S3 server."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svgan_ray.errors import (
    ConfigError,
    ConflictError,
    CorruptObjectError,
    DataError,
    StoreAccessError,
    StoreError,
    StoreSchemaError,
)
from svgan_ray.store import (
    ClipRecord,
    Filters,
    LatentStore,
    ObjectNotFoundError,
    UnequalWorkError,
    keys,
    open_store,
    select,
)
from svgan_ray.store.records import ModelFile, ModelManifest, StoreMarker
from tests.store.conftest import S3_PLACES
from tests.store.samples import (
    CLIP,
    INVERSION,
    TRACKING,
    VIDEO,
    chunk_tensors,
    commit_record,
    failure_record,
    put_chunks,
    put_clip,
    track_landmarks,
    track_record,
    track_tensors,
)

pytestmark = pytest.mark.parametrize("place", ["folder", *S3_PLACES])


def test_a_store_must_be_made_before_it_is_opened(store_uri: str) -> None:
    with pytest.raises(StoreAccessError, match="no latent store here"):
        open_store(store_uri)
    open_store(store_uri, create=True)
    open_store(store_uri, create=True)
    assert open_store(store_uri).usage()["commits"].objects == 0


def test_a_store_of_a_newer_version_is_refused(
    store_uri: str, store: LatentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("svgan_ray.store.records.SCHEMA", 2)
        store.backend.put(keys.MARKER, StoreMarker().to_json())
    with pytest.raises(StoreSchemaError, match="schema 2, this version reads up to 1"):
        open_store(store_uri)


def test_a_committed_clip_is_read_back_to_the_bit(store: LatentStore) -> None:
    chunks = put_chunks(store)
    with pytest.raises(ObjectNotFoundError, match=CLIP):
        store.read_clip(INVERSION, CLIP)
    assert store.get_commit(INVERSION, CLIP) is None
    record = commit_record(chunks)
    assert store.commit(record)
    assert store.get_commit(INVERSION, CLIP) == record
    clip = store.read_clip(INVERSION, CLIP)
    expected = {name: torch.cat([chunk_tensors(0)[name], chunk_tensors(3)[name]]) for name in chunk_tensors()}
    for name, tensor in expected.items():
        torch.testing.assert_close(getattr(clip, name), tensor, rtol=0, atol=0, equal_nan=True)
    assert (clip.clip_id, clip.subject, clip.frames) == (CLIP, "anna", 6)


def test_equal_work_commits_once(store: LatentStore) -> None:
    assert store.commit(commit_record(put_chunks(store)))
    assert not store.commit(commit_record(put_chunks(store), node="node-b"))
    standing = store.get_commit(INVERSION, CLIP)
    assert standing is not None and standing.node == "node-a"
    assert store.usage()["chunks"].objects == 2


def test_unequal_work_is_reported_and_the_first_kept(store: LatentStore) -> None:
    first = put_clip(store)
    with pytest.raises(UnequalWorkError, match="node-a with other latents") as raised:
        store.commit(commit_record(put_chunks(store, variant=2), node="node-b"))
    assert isinstance(raised.value, ConflictError)
    assert raised.value.largest_difference == pytest.approx(2e-3, rel=1e-2)
    assert pickle.loads(pickle.dumps(raised.value)).largest_difference == raised.value.largest_difference
    assert store.get_commit(INVERSION, CLIP) == first


def test_the_same_latents_in_other_chunks_are_equal_work(store: LatentStore) -> None:
    put_clip(store)
    whole = {name: torch.cat([chunk_tensors(0)[name], chunk_tensors(3)[name]]) for name in chunk_tensors()}
    assert not store.commit(commit_record([store.put_chunk(INVERSION, CLIP, 0, whole)]))


def test_a_commit_wants_all_its_chunks(store: LatentStore) -> None:
    chunks = put_chunks(store)
    with pytest.raises(DataError, match="do not add up"):
        store.commit(replace(commit_record(chunks), chunks=tuple(chunks[:1])))
    store.backend.delete(chunks[1].key)
    with pytest.raises(StoreError, match="is missing; run the same command again"):
        store.commit(commit_record(chunks))
    assert store.get_commit(INVERSION, CLIP) is None


def test_chunks_of_a_killed_writer_serve_again(store: LatentStore) -> None:
    chunks = put_chunks(store)
    assert store.stored_chunks(INVERSION, CLIP) == dict(enumerate(chunks))
    damaged = bytearray(store.backend.get(chunks[0].key))
    damaged[-1] ^= 1
    store.backend.put(chunks[0].key, bytes(damaged))
    assert store.stored_chunks(INVERSION, CLIP) == {1: chunks[1]}
    again = store.put_chunk(INVERSION, CLIP, 0, chunk_tensors(0))  # beside the damaged one
    assert again.key != chunks[0].key and again.sha256 == chunks[0].sha256
    assert store.commit(commit_record([again, chunks[1]]))
    assert torch.equal(store.read_clip(INVERSION, CLIP).w_plus[:3], chunk_tensors(0)["w_plus"])


def test_damaged_chunks_are_never_handed_out(store: LatentStore) -> None:
    record = put_clip(store)
    damaged = bytearray(store.backend.get(record.chunks[0].key))
    damaged[len(damaged) // 2] ^= 4
    store.backend.put(record.chunks[0].key, bytes(damaged))
    with pytest.raises(CorruptObjectError, match=record.chunks[0].sha256):
        store.read_clip(INVERSION, CLIP)
    with pytest.raises(CorruptObjectError):
        store.read_chunk(record.chunks[0])


def test_a_chunk_deleted_by_hand_names_the_way_out(store: LatentStore) -> None:
    record = put_clip(store)
    store.backend.delete(record.chunks[1].key)
    with pytest.raises(ObjectNotFoundError, match=f"{record.chunks[1].sha256}.*lists a repair"):
        store.read_clip(INVERSION, CLIP)


def test_half_precision_stays_so_in_the_store_alone(store: LatentStore) -> None:
    tensors = chunk_tensors()
    rounded = {"w_plus": tensors["w_plus"].half(), "rounding": torch.tensor([1e-4, torch.nan, torch.nan])}
    with pytest.raises(DataError, match=r"expected the tensors .* rounding, got"):
        store.put_chunk(INVERSION, CLIP, 0, tensors | {"w_plus": rounded["w_plus"]})
    half = store.put_chunk(INVERSION, CLIP, 0, tensors | rounded)
    assert store.read_chunk(half)["w_plus"].dtype == torch.float16
    store.commit(replace(commit_record([half]), float16_psnr_db=71.5))
    clip = store.read_clip(INVERSION, CLIP)
    assert clip.w_plus.dtype == torch.float32
    assert torch.equal(clip.w_plus, tensors["w_plus"].half().float())


def test_the_first_track_stands_and_is_handed_out(store: LatentStore) -> None:
    first = store.put_track(track_record(), track_tensors())
    other = track_record((ClipRecord(CLIP, 0, 5),))
    assert store.put_track(other, track_tensors(1.0)) == first
    assert store.get_track(TRACKING, VIDEO) == first
    assert store.get_track(TRACKING, "77" * 32) is None
    assert list(store.tracks(TRACKING)) == [first]
    assert torch.equal(store.track_tensors(first)[f"{CLIP}.quad"], torch.zeros(6, 4, 2))
    assert store.tracking_ids() == [TRACKING]


def test_landmarks_lie_beside_the_quads(store: LatentStore) -> None:
    """A track without them is written as it ever was."""
    plain = store.put_track(track_record(), track_tensors())
    assert b"landmarks" not in plain.to_json() and plain.landmarks is None
    seen = store.put_track(replace(track_record(), video_id="77" * 32), track_tensors(), track_landmarks(2.0))
    assert store.get_track(TRACKING, "77" * 32) == seen and seen.landmarks is not None
    assert torch.equal(store.landmarks(seen.landmarks)[f"{CLIP}.landmarks"], torch.full((6, 68, 2), 2.0))
    assert len(seen.objects()) == 2 and set(store.track_tensors(seen)) == set(track_tensors())


def test_commits_are_planned_from_one_listing(store: LatentStore) -> None:
    clips = sorted(f"{number:032x}" for number in range(5))
    records = [put_clip(store, clip) for clip in clips]
    assert store.committed_ids(INVERSION) == set(clips)
    assert store.committed_ids("other") == set()
    assert list(store.commits(INVERSION)) == records
    assert store.inversion_ids() == [INVERSION]


def test_failures_are_replaced_and_cleared(store: LatentStore) -> None:
    store.put_failure(INVERSION, failure_record(attempts=1))
    store.put_failure(INVERSION, failure_record(attempts=2))
    assert store.failures(INVERSION) == {CLIP: failure_record(attempts=2)}
    store.clear_failure(INVERSION, CLIP)
    store.clear_failure(INVERSION, CLIP)
    assert store.failures(INVERSION) == {}


def test_sources_are_remembered_by_size_and_version(store: LatentStore) -> None:
    store.put_source("/a.mp4", 10, "1", VIDEO)
    store.put_source("/a.mp4", 10, "1", VIDEO)
    assert store.sources() == {keys.source_id("/a.mp4", 10, "1"): VIDEO}
    assert keys.source_id("/a.mp4", 10, "2") not in store.sources()


def test_the_first_basis_stands(store: LatentStore) -> None:
    assert store.get_basis("b1") is None
    mean = {"mean": torch.arange(6.0).reshape(2, 3)}
    assert torch.equal(store.put_basis("b1", mean)["mean"], mean["mean"])
    assert torch.equal(store.put_basis("b1", {"mean": torch.zeros(2, 3)})["mean"], mean["mean"])
    basis = store.get_basis("b1")
    assert basis is not None and torch.equal(basis["mean"], mean["mean"])


def test_snapshots_number_their_generations(store: LatentStore) -> None:
    assert store.latest_snapshot("anna") is None
    put_clip(store, "11" * 16)
    first = store.put_snapshot(select(store, "anna", INVERSION))
    assert first.generation == 1 and first.frames == 6
    assert store.put_snapshot(select(store, "anna", INVERSION)) == first  # nothing new
    put_clip(store, "22" * 16)
    second = store.put_snapshot(select(store, "anna", INVERSION))
    assert second.generation == 2 and second.digest != first.digest
    assert store.latest_snapshot("anna") == second
    assert store.get_snapshot("anna", 1) == first
    assert store.get_snapshot("anna", 3) is None
    assert store.snapshot_names() == ["anna"]
    assert [clip.clip_id for clip in store.snapshot_clips(first)] == ["11" * 16]


def test_a_snapshot_chooses(store: LatentStore) -> None:
    put_clip(store, "11" * 16, "anna")
    put_clip(store, "22" * 16, "ben")
    record = put_clip(store, "33" * 16, "ben")
    chosen = select(store, "ben", INVERSION, Filters(subject="ben"))
    assert [clip.clip_id for clip in chosen.clips] == ["22" * 16, "33" * 16]
    assert (
        len(select(store, "all", INVERSION, Filters(min_duration_s=6 / 25, max_mean_error=0.25)).clips) == 3
    )
    for filters, asked in (
        (Filters(subject="zoe"), "shows zoe"),
        (Filters(subject="ben", min_duration_s=1.0), r"shows ben, lasts 1 s \(min_clip_s\)"),
        (Filters(max_mean_error=0.2), r"has a mean error of 0\.2 at most \(max_error\)"),
    ):
        held = r"anna \(clips: 1, up to 0\.2 s, errors from 0\.25\); ben \(clips: 2, .*\)"
        with pytest.raises(DataError, match=rf"none of 3 clips .* {asked}; it holds: {held}"):
            select(store, "none", INVERSION, filters)
    assert Filters(max_mean_error=0.2).takes(replace(record, mean_error=None)) is False


def test_a_snapshot_tells_when_its_data_changed(store: LatentStore) -> None:
    put_clip(store)
    snapshot = store.put_snapshot(select(store, "anna", INVERSION))
    store.backend.delete(keys.commit(INVERSION, CLIP))
    with pytest.raises(ConflictError, match="is gone"):
        list(store.snapshot_clips(snapshot))
    store.commit(commit_record(put_chunks(store, variant=1)))
    with pytest.raises(ConflictError, match="was made again and differs"):
        list(store.snapshot_clips(snapshot))


def test_models_are_whole_or_absent(store: LatentStore, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "samples").mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "samples" / "0.mp4").write_bytes(b"")
    store.put_model(model, "runs/anna/step-00001000")
    store.put_model(model, "runs/anna/step-00001000")
    store.get_model("runs/anna/step-00001000", tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "copy" / "samples" / "0.mp4").read_bytes() == b""
    with pytest.raises(StoreError, match="exists already"):
        store.get_model("runs/anna/step-00001000", tmp_path / "copy")
    (model / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ConflictError, match="choose another name"):
        store.put_model(model, "runs/anna/step-00001000")
    store.put_model(model, "ben")
    assert store.model_names() == ["ben", "runs/anna/step-00001000"]
    assert store.model_names("runs/") == ["runs/anna/step-00001000"]
    store.delete_model("runs/anna/step-00001000")
    assert store.model_names() == ["ben"]
    assert store.usage()["models"].objects == 3
    with pytest.raises(ObjectNotFoundError, match="no model runs/anna"):
        store.get_model("runs/anna/step-00001000", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_damaged_model_leaves_nothing_behind(store: LatentStore, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_bytes(b"{}")
    store.put_model(tmp_path / "model", "anna")
    [key] = [entry.key for entry in store.backend.list("models/anna/files/")]
    store.backend.put(key, b"{ ")
    with pytest.raises(CorruptObjectError):
        store.get_model("anna", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []
    with pytest.raises(StoreError, match="holds no files"):
        store.put_model(tmp_path / "nothing", "empty")


def test_a_model_whose_files_would_leave_the_folder_is_refused(store: LatentStore, tmp_path: Path) -> None:
    evil = ModelManifest("evil", (ModelFile("models/evil/files/x", "0" * 64, 1, "../outside"),))
    store.backend.put(keys.model_manifest("evil"), evil.to_json())
    with pytest.raises(ConfigError, match="cannot be a name"):
        store.get_model("evil", tmp_path / "evil")
    assert list(tmp_path.glob("*outside*")) == []


def test_a_store_can_be_sent_to_another_process(store: LatentStore) -> None:
    put_clip(store)
    assert pickle.loads(pickle.dumps(store)).read_clip(INVERSION, CLIP).frames == 6


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", ".hidden", "ä", "x" * 129])
def test_names_that_could_leave_their_place_are_refused(store: LatentStore, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name in the store"):
        store.get_commit(INVERSION, name)
    with pytest.raises(ConfigError, match="cannot be a name in the store"):
        store.put_failure(name, failure_record())
