"""What was done to footage joins its clips' ids and its track, and is told; plain footage stays as it is."""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan_ray.errors import VideoError
from svgan_ray.orchestration.invert.encoding import crop_block
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import Block
from svgan_ray.orchestration.invert.plan import plan_only
from svgan_ray.orchestration.runtime.choosing import expand
from svgan_ray.store import LatentStore, TrackRecord, open_store
from svgan_ray.store.keys import clip_id
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.weights import save_weights
from svgan_ray.video.footage_facts import facts_of
from svgan_ray.video.landmarks import write_sidecar
from tests.footage import ENCODER, GENERATOR, face_frames, face_points, make_video
from tests.orchestration.invert.plain import config_for, plan_for, run
from tests.video.media import DATA, damaged_in_the_middle, encode, with_matrix

FRAMES = 30


@pytest.fixture
def old_weights(tmp_path: Path) -> Path:
    """The networks of the old store, whose weights are fractions, the same anywhere."""
    for network, name in ((Generator(GENERATOR), "generator"), (Encoder(ENCODER), "encoder")):
        with torch.no_grad():
            for tensor in network.state_dict().values():
                if tensor.is_floating_point():
                    values = torch.arange(tensor.numel())
                    row = (values % 7 + 1) / 64 if tensor.ndim else ((values % 7 - 3) / 8).abs()
                    tensor.copy_(row.reshape(tensor.shape))
        save_weights(network, tmp_path / "weights" / name, {"made_by": "tests"})
    return tmp_path / "weights"


def test_plain_footage_in_an_old_store_stays_done(tmp_path: Path, old_weights: Path) -> None:
    """Even, turned by a quarter, and at a variable rate: planned as done, and tracked to the same clips."""
    with tarfile.open(DATA / "store_before_picture_rules.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    store = open_store(tmp_path / "store")
    config = config_for(tmp_path / "footage", old_weights, store)
    sources = expand(config.videos)
    tracking_id = store.tracking_ids()[0]
    by_name = {Path(record.uri).name: record for record in store.tracks(tracking_id)}
    for source in sources:
        video_id = by_name[Path(source.uri).name].video_id
        store.put_source(source.uri, source.size_bytes, source.version, video_id)

    plan, job = plan_for(config, store)
    assert (len(plan.done), plan.todo, plan.failed) == (3, [], {})
    assert job.tracking_id == tracking_id

    for seed, source in enumerate(sources):
        write_sidecar(source.uri, face_points(FRAMES, seed))
    again = open_store(tmp_path / "again", create=True)
    run(config_for(tmp_path / "footage", old_weights, again), again)
    new = {Path(record.uri).name: record for record in again.tracks(tracking_id)}
    for name, record in by_name.items():
        assert new[name].clips == record.clips and new[name].parameters == record.parameters, name
        assert (new[name].frame_rate_hz, new[name].width) == (record.frame_rate_hz, record.width)


def only_track(store: LatentStore, tracking_id: str) -> TrackRecord:
    [record] = store.tracks(tracking_id)
    return record


def test_mirrored_footage_has_clips_of_its_own(tmp_path: Path, weights: Path, store: LatentStore) -> None:
    lying = encode(tmp_path / "lying.mp4", face_frames(FRAMES)[:, :, ::-1])
    (tmp_path / "footage").mkdir()
    video = with_matrix(lying, tmp_path / "footage" / "selfie.mp4", (-1, 0, 0, 1))
    write_sidecar(video, face_points(FRAMES))
    planned = plan_only(config_for(tmp_path / "footage", weights, store))
    assert planned.conversions == {str(video): ("mirrored",)}
    report = run(config_for(tmp_path / "footage", weights, store), store)
    record = only_track(store, report.tracking_id)
    assert facts_of(record.parameters).rules == ("mirrored",)
    assert record.clips[0].clip_id != clip_id(record.video_id, record.tracking_id, 0, FRAMES)
    assert report.summary()["files converted"] == "1 mirrored"
    plan, _ = plan_for(config_for(tmp_path / "footage", weights, store), store)
    assert len(plan.done) == 1, "planning knows the clips by the record"


def test_a_damaged_spot_costs_its_frames_and_is_told(
    tmp_path: Path, weights: Path, store: LatentStore
) -> None:
    (tmp_path / "footage").mkdir()
    damaged_in_the_middle(tmp_path / "footage" / "a.mp4")
    report = run(config_for(tmp_path / "footage", weights, store, faces="aligned"), store)
    record = only_track(store, report.tracking_id)
    assert [(clip.first_frame, clip.stop_frame) for clip in record.clips] == [(0, 50), (75, 100)]
    assert [(s.first_frame, s.stop_frame, s.reason) for s in record.skipped] == [(50, 75, "damaged")]
    assert (report.clips_committed, report.failures) == (2, ())
    assert report.summary()["files damaged"] == "1"
    assert any("25 frames are damaged" in note for note in report.notes)


def test_mended_times_are_recorded_and_told(tmp_path: Path, weights: Path, store: LatentStore) -> None:
    folder = tmp_path / "footage"
    make_video(folder / "plain.mp4", FRAMES)
    encode(folder / "old.avi", face_frames(FRAMES))
    write_sidecar(folder / "old.avi", face_points(FRAMES))
    report = run(config_for(folder, weights, store), store)
    assert (report.clips_committed, report.failures) == (2, ())
    [record] = [record for record in store.tracks(report.tracking_id) if record.subject == "old"]
    assert set(facts_of(record.parameters).mends) == {"reordered"}
    [clip] = record.clips
    assert clip.clip_id == clip_id(record.video_id, record.tracking_id, 0, FRAMES), "its pictures are as ever"
    assert report.summary()["files with mended times"] == "1"
    assert any("old.avi" in note and "decoder's order" in note for note in report.notes)
    time_s = store.track_tensors(record)[f"{clip.clip_id}.time_s"]
    assert time_s.numpy() == pytest.approx(np.arange(FRAMES) / 25, abs=1e-6)


def test_time_lapse_footage_is_told(tmp_path: Path, weights: Path, store: LatentStore) -> None:
    make_video(tmp_path / "footage" / "a.mp4", FRAMES, frame_rate_hz=1.0)
    report = run(config_for(tmp_path / "footage", weights, store), store)
    assert (report.clips_committed, report.failures) == (1, ())
    assert any("its frames are 1 s apart, longer than the 0.4 s" in note for note in report.notes)


def test_a_file_of_damage_alone_is_refused_by_tracking(
    tmp_path: Path, weights: Path, store: LatentStore
) -> None:
    """No keyframe is sound, so no frame is."""
    import av

    path = encode(
        tmp_path / "footage.mkv", face_frames(FRAMES), options={"x264-params": "keyint=60:bframes=0"}
    )
    with av.open(str(path)) as container:
        first = next(bytes(packet) for packet in container.demux(video=0))
    data = bytearray(path.read_bytes())
    place = data.index(first) + len(first) // 2
    data[place : place + len(first) // 4] = bytes(len(first) // 4)
    path.write_bytes(data)
    report = run(config_for(path, weights, store, faces="aligned"), store)
    [failure] = report.failures
    assert (failure.stage, failure.reason) == ("track", "decode")


def test_a_track_that_was_made_without_a_rule_is_not_cropped_by_it(
    tmp_path: Path, weights: Path, store: LatentStore
) -> None:
    """An earlier version's quads lie in other pictures."""
    upright = encode(tmp_path / "upright.mp4", face_frames(FRAMES))
    (tmp_path / "footage").mkdir()
    video = with_matrix(upright, tmp_path / "footage" / "selfie.mp4", (-1, 0, 0, 1))
    write_sidecar(video, face_points(FRAMES))
    plan, job = plan_for(config_for(tmp_path / "footage", weights, store), store)
    [block] = [item for item in track_source(job, plan.todo[0], frozenset()) if isinstance(item, Block)]
    assert block.clip.rules == ("mirrored",) and len(crop_block(block, 32).frames) == FRAMES
    old = dataclasses.replace(block, clip=dataclasses.replace(block.clip, rules=()))
    with pytest.raises(VideoError, match="without: mirrored") as caught:
        crop_block(old, 32)
    assert caught.value.reason == "tracked_otherwise"
