"""What becomes of footage and records that are bad, missing or change: each its own failure, no more."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ray.exceptions import WorkerCrashedError

from svgan_ray.errors import CorruptObjectError, StoreAccessError, StoreError, VideoError, WeightsError
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.failures import clip_failure, source_failure
from svgan_ray.orchestration.invert.items import (
    Block,
    Failure,
    Tracked,
)
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.plan import inversion_of
from svgan_ray.orchestration.runtime.sources import unchanged_copy
from svgan_ray.store import LatentStore
from svgan_ray.video.landmarks import write_sidecar
from tests.footage import face_points, make_video
from tests.orchestration.invert.plain import config_for, plan_for, run


def test_each_bad_file_is_one_recorded_failure_and_the_others_complete(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(footage, weights, store)
    report = run(config, store)
    assert report.clips_committed == 2 and report.frames_encoded == 190
    reasons = {Path(f.uri).name: f.reason for f in store.failures(report.tracking_id).values()}
    assert reasons.keys() == {"empty.mp4", "text.mp4", "truncated.mp4", "audio.mp4"}
    assert reasons["empty.mp4"] == "empty" and len(set(reasons.values())) >= 3, reasons
    assert report.exit_code == 1, "four of six failed, more than half"
    assert dataclasses.replace(report, max_failure_fraction=0.7).exit_code == 0

    again, _ = plan_for(config, store)
    assert (len(again.todo), len(again.done), len(again.failed)) == (0, 2, 4)
    retry = run(dataclasses.replace(config, retry_failures=True), store)
    assert (retry.videos_to_do, retry.clips_committed) == (4, 0)
    assert {f.attempts for f in store.failures(report.tracking_id).values()} == {2}


def test_a_mended_video_is_done_at_the_next_run(tmp_path: Path, weights: Path, store: LatentStore) -> None:
    video = make_video(tmp_path / "v.mp4", 30)
    sidecar = next(tmp_path.glob("*.landmarks.*"))
    hidden = sidecar.rename(tmp_path / "elsewhere")
    config = config_for(video, weights, store)
    report = run(config, store)
    assert [f.reason for f in report.failures] == ["landmarks"]
    hidden.rename(sidecar)
    assert plan_for(config, store)[0].todo == []
    report = run(dataclasses.replace(config, retry_failures=True), store)
    assert report.clips_committed == 1 and not store.failures(report.tracking_id)


def test_what_was_read_of_a_video_that_changes_meanwhile_is_void(
    tmp_path: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(make_video(tmp_path / "v.mp4", 30), weights, store)
    plan, job = plan_for(config, store)
    [source] = plan.todo
    with pytest.raises(VideoError, match="changed while the job ran"), unchanged_copy(source) as path:
        os.utime(path, (1, 1))
        raise VideoError("a frame is damaged", "decode")  # by the change, perhaps
    [failure] = track_source(job, source, frozenset())
    assert isinstance(failure, Failure) and failure.record.reason == "changed"
    Ledger(store, job, {}).take(failure)
    assert run(config, store).clips_committed == 1, "what is there now has not failed"


def test_a_clip_whose_file_changes_is_done_when_the_file_is_back(
    tmp_path: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(make_video(tmp_path / "v.mp4", 30), weights, store)
    plan, job = plan_for(config, store)
    [source], ledger = plan.todo, Ledger(store, job, {})
    tracked, block = track_source(job, source, frozenset())
    assert isinstance(block, Block)
    for item in (tracked, clip_failure(job, block.clip, "crop", VideoError("x", "changed"))):
        ledger.take(item)
    assert ledger.is_settled(source)
    report = run(config, store)
    assert report.clips_committed == 1 and not store.failures(job.tracking_id)


def test_a_store_that_fails_stops_the_job(footage: Path, weights: Path, store: LatentStore) -> None:
    """What every video would suffer is no video's failure."""
    plan, job = plan_for(config_for(footage / "ben.mp4", weights, store), store)
    lost = dataclasses.replace(job, store=str(Path(store.uri) / "missing"))
    [failure] = track_source(lost, plan.todo[0], frozenset())
    assert isinstance(failure, Failure) and failure.is_fatal
    with pytest.raises(StoreError, match="no latent store"):
        Ledger(store, job, {}).take(failure)
    assert not store.failures(job.tracking_id)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_track_is_its_own_videos_failure(
    footage: Path, weights: Path, store: LatentStore, tmp_path: Path
) -> None:
    for name in ("anna", "ben"):
        for file in footage.glob(f"{name}.mp4*"):
            shutil.copy2(file, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(config_for(tmp_path / "anna.mp4", weights, store), store, die_after_chunks=1)
    [track] = Path(store.uri).glob("tracks/*/*/[0-9a-f]*.safetensors")
    damage(track)
    report = run(config_for(tmp_path, weights, store), store)
    [failure] = report.failures
    assert (Path(failure.uri).stem, failure.stage, failure.reason) == (
        "anna",
        "track",
        "corrupt_object_error",
    )
    assert "verify --deep" in failure.message and report.clips_committed == 1


def test_a_damaged_commit_is_its_own_clips_failure(
    two_people: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(two_people, weights, store, people="all")
    first = run(config, store)
    one, other = Path(store.uri).glob("commits/*/*.json")
    damage(one)
    other.unlink()
    report = run(config, store)
    [failure] = report.failures
    assert (failure.item_id, failure.stage, failure.reason) == (one.stem, "commit", "corrupt_object_error")
    assert other.exists() and report.clips_committed == 1
    assert (report.frames_encoded, report.frames_reused) == (0, first.frames_encoded)


@pytest.mark.parametrize("is_all_gone", [False, True])
def test_chunks_that_vanish_before_the_commit(
    footage: Path, weights: Path, store: LatentStore, is_all_gone: bool
) -> None:
    """One clip's are its failure; with the whole store gone there is nobody to fail but the job."""
    plan, job = plan_for(config_for(footage / "anna.mp4", weights, store), store)
    ledger, encoder = Ledger(store, job, {}), BlockEncoder(job, store, "here")
    tracked, *blocks = track_source(job, plan.todo[0], frozenset())
    chunks = [encoder(crop_block(block, job.crop_side)) for block in blocks if isinstance(block, Block)]
    shutil.rmtree(store.uri if is_all_gone else Path(store.uri) / "chunks")
    for item in (tracked, *chunks[:-1]):
        ledger.take(item)
    if is_all_gone:
        with pytest.raises(StoreAccessError, match="no latent store here"):
            ledger.take(chunks[-1])
            ledger.settle()
        return
    ledger.take(chunks[-1])
    ledger.settle()
    assert [failure.reason for failure in ledger.failures.values()] == ["object_not_found_error"]
    assert ledger.is_settled(plan.todo[0]) and not ledger.commits


def test_what_is_looked_at_twice_counts_once(footage: Path, weights: Path, store: LatentStore) -> None:
    """As when a dead process's blocks are run again: the blocks that were stored come back with them."""
    plan, job = plan_for(config_for(footage / "anna.mp4", weights, store), store)
    ledger, encoder = Ledger(store, job, {}), BlockEncoder(job, store, "here")
    tracked, first, _ = track_source(job, plan.todo[0], frozenset())
    assert isinstance(first, Block)
    ledger.take(tracked)
    ledger.take(encoder(crop_block(first, job.crop_side)))
    for item in track_source(job, plan.todo[0], frozenset()):
        ledger.take(encoder(crop_block(item, job.crop_side)) if isinstance(item, Block) else item)
    ledger.take(encoder(crop_block(first, job.crop_side)))  # as when Ray lost what tracking gave
    ledger.take(dataclasses.replace(tracked, open_clips=frozenset()))  # type: ignore[type-var]
    ledger.settle()
    assert (ledger.encoded_frames, ledger.reused_frames) == (150, 0)
    assert (len(ledger.commits), ledger.skipped_clips) == (1, 0)


def test_what_was_done_before_its_report_was_lost_is_not_skipped(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    plan, job = plan_for(config_for(footage / "anna.mp4", weights, store), store)
    ledger, encoder = Ledger(store, job, {}), BlockEncoder(job, store, "here")
    for item in track_source(job, plan.todo[0], frozenset()):
        if isinstance(item, Block):
            ledger.take(encoder(crop_block(item, job.crop_side)))
    ledger.settle()
    assert not ledger.is_settled(plan.todo[0])
    [again] = track_source(job, plan.todo[0], frozenset())
    ledger.take(again)
    assert ledger.is_settled(plan.todo[0])
    assert (len(ledger.commits), ledger.skipped_clips) == (1, 0)


def test_reasons_are_short_and_stable(footage: Path, weights: Path, store: LatentStore) -> None:
    plan, job = plan_for(config_for(footage / "ben.mp4", weights, store), store)
    [source] = plan.todo
    for error, reason, is_fatal in [
        (VideoError("x", "truncated"), "truncated", False),
        (ZeroDivisionError("x"), "zero_division_error", False),
        (StoreAccessError("x"), "store_access_error", True),
        (StoreError("the disk is full"), "store_error", True),
        (CorruptObjectError("x"), "corrupt_object_error", False),
    ]:
        failure = source_failure(job, source, None, error)
        assert (failure.record.reason, failure.is_fatal) == (reason, is_fatal)


def test_a_clip_with_a_lost_block_is_not_settled(footage: Path, weights: Path, store: LatentStore) -> None:
    plan, job = plan_for(config_for(footage / "anna.mp4", weights, store), store)
    ledger, encoder = Ledger(store, job, {}), BlockEncoder(job, store, "here")
    items = list(track_source(job, plan.todo[0], frozenset()))
    blocks = [item for item in items if isinstance(item, Block)]
    assert isinstance(items[0], Tracked) and len(blocks) == 2
    for item in [items[0], encoder(crop_block(blocks[0], job.crop_side))]:
        ledger.take(item)
    assert not ledger.is_settled(plan.todo[0]) and not ledger.commits
    ledger.take(clip_failure(job, blocks[1].clip, "encode", ZeroDivisionError()))
    assert ledger.is_settled(plan.todo[0]) and not ledger.commits


def test_weights_that_are_not_there(footage: Path, tmp_path: Path, store: LatentStore) -> None:
    with pytest.raises(WeightsError):
        inversion_of(config_for(footage, tmp_path / "none", store), store.uri)


def test_a_source_that_died_before_its_bytes_were_known_is_not_tried_for_ever(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(footage / "ben.mp4", weights, store)
    plan, job = plan_for(config, store)
    [source] = plan.todo
    died = source_failure(job, source, None, WorkerCrashedError())
    assert died.record.reason == "worker_died"
    Ledger(store, job, {}).take(died)
    store.put_source(source.uri, source.size_bytes, source.version, "0" * 64)  # it had come that far
    assert plan_for(config, store)[0].failed.keys() == {source.uri}
    report = run(dataclasses.replace(config, retry_failures=True), store)
    assert report.clips_committed == 1 and not store.failures(job.tracking_id)


@pytest.mark.parametrize(("scale", "reason"), [(np.nan, "no_face"), (0.4, "small_face")])
def test_a_video_without_a_usable_face_is_a_failure(
    tmp_path: Path, weights: Path, store: LatentStore, scale: float, reason: str
) -> None:
    video = make_video(tmp_path / "far.mp4", 40)
    write_sidecar(video, scale * face_points(40))
    report = run(config_for(video, weights, store), store)
    [failure] = report.failures
    assert (failure.stage, failure.reason) == ("track", reason)
    assert not list(store.tracks(report.tracking_id))
