"""Inversion without Ray: what the stages make of sound footage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from svgan_ray.config import InvertConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.invert.encoding import BlockEncoder, crop_block, in_batches
from svgan_ray.orchestration.invert.faces import track_source
from svgan_ray.orchestration.invert.items import (
    BLOCK_FRAMES,
    Block,
    block_spans,
)
from svgan_ray.orchestration.invert.job import plan as dry_run
from svgan_ray.orchestration.invert.ledger import Ledger
from svgan_ray.orchestration.invert.report import report_of
from svgan_ray.store import LatentStore, open_store
from svgan_ray.stylegan import import_weights
from svgan_ray.video.landmarks import write_sidecar
from svgan_ray.video.reading import VideoReader, open_video
from tests.footage import face_frames, face_points, make_video
from tests.orchestration.invert.plain import config_for, plan_for, run, track_only
from tests.stylegan.importing.writers import LpipsProgram, script


@given(first=st.integers(0, 1000), frames=st.integers(1, 1000))
def test_blocks_cover_a_clip_and_lie_at_absolute_positions(first: int, frames: int) -> None:
    spans = list(block_spans(first, first + frames))
    assert [f for start, stop in spans for f in range(start, stop)] == list(range(first, first + frames))
    assert all(start % BLOCK_FRAMES == 0 for start, _ in spans[1:])
    assert all(start // BLOCK_FRAMES == (stop - 1) // BLOCK_FRAMES for start, stop in spans)


@given(rows=st.integers(1, 40), batch=st.integers(1, 16), position=st.integers(0, 100))
def test_every_row_has_its_place_in_calls_of_one_size(rows: int, batch: int, position: int) -> None:
    sizes = set()

    def place(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sizes.update((len(x), len(y)))
        return torch.stack([x, y, torch.arange(batch)], dim=1)

    x = torch.arange(rows)
    out = in_batches(place, batch, position, x, -x)
    assert torch.equal(out, torch.stack([x, -x, (position + x) % batch], dim=1))
    assert sizes == {batch}


def test_every_frame_is_kept_with_its_time_and_place(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(footage / "anna.mp4", weights, store, error_every_frames=10)
    report = run(config, store)
    [record] = store.commits(report.inversion_id)
    clip = store.read_clip(report.inversion_id, record.clip_id)
    assert (record.subject, record.first_frame, record.stop_frame, record.node) == ("anna", 0, 150, "here")
    assert clip.w_plus.shape == (150, 8, 16)
    assert torch.allclose(clip.time_s, torch.arange(150, dtype=torch.float64) / 25, atol=1e-6)
    assert torch.equal(clip.error.isfinite().nonzero().flatten(), torch.arange(0, 150, 10))
    assert record.mean_error == pytest.approx(float(clip.error[::10].mean()))
    centre = clip.quad.mean(dim=1)
    assert float(centre.std(dim=0).min()) > 1, "the crop follows the head"
    assert len({tuple(w.flatten().tolist()) for w in clip.w_plus}) == 150, "frames differ, so do latents"


def test_latents_are_those_of_the_frames_themselves(footage: Path, weights: Path, store: LatentStore) -> None:
    """Block by block equals one pass by hand over the decoded video."""
    from svgan_ray.stylegan.weights import load_encoder
    from svgan_ray.video.cropping import crop_quads

    report = run(config_for(footage / "anna.mp4", weights, store, error_every_frames=1000), store)
    [record] = store.commits(report.inversion_id)
    clip = store.read_clip(report.inversion_id, record.clip_id)
    assert clip.error.isfinite().sum() == 1, "the second block holds no measured frame"
    with open_video(footage / "anna.mp4") as video:
        frames = video.read(0, 150)
    assert np.abs(frames.astype(int) - face_frames(150, seed=1)).mean() < 12, "the video is what was written"
    crops = crop_quads(frames, clip.quad.numpy(), 32)
    images = torch.tensor(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        w_plus = load_encoder(weights / "encoder").encode(images)
    assert torch.allclose(clip.w_plus, w_plus, atol=1e-4)


def test_a_typical_frame_of_each_video_and_the_worst_ones_are_shown(
    weights: Path, store: LatentStore, tmp_path: Path
) -> None:
    for seed, name in enumerate(("anna", "ben")):
        make_video(tmp_path / "footage" / f"{name}.mp4", 150, seed)
    plan, job = plan_for(config_for(tmp_path / "footage", weights, store, error_every_frames=10), store)
    ledger, encoder = Ledger(store, job, {}), BlockEncoder(job, store, "here")
    items = (item for source in plan.todo for item in track_source(job, source, frozenset()))
    chunks = [encoder(crop_block(item, job.crop_side)) for item in items if isinstance(item, Block)]
    for chunk in chunks:
        ledger.take(chunk)
    assert [Path(uri).stem for uri in ledger.typical] == ["anna", "ben"]
    typical = ledger.typical[chunks[0].clip.source.uri]
    assert typical.error == pytest.approx(sorted(chunks[0].error)[(len(chunks[0].error) - 1) // 2])
    assert [pair.error for pair in ledger.worst] == pytest.approx(
        sorted((float(chunk.error.max()) for chunk in chunks), reverse=True)
    )
    with open_video(tmp_path / "footage" / "anna.mp4") as video:
        frame = video.read(typical.frame, typical.frame + 1)[0]
    crop, shown = typical.pixels
    assert abs(float(crop.mean()) - float(frame.mean())) < 40 and (crop != shown).any()


@pytest.mark.parametrize("before", [False, True])
def test_convolutions_are_deterministic_while_a_block_is_computed_alone(
    weights: Path, store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """The setting is one of the whole process: other work in it must not find it changed."""
    make_video(tmp_path / "footage" / "anna.mp4", 150)
    plan, job = plan_for(config_for(tmp_path / "footage", weights, store), store)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", before)
    encoder, seen = BlockEncoder(job, store, "here"), []
    assert torch.backends.cudnn.deterministic == before
    encode = encoder.encoder.encode

    def watched(*given: Any) -> torch.Tensor:
        seen.append(torch.backends.cudnn.deterministic)
        return encode(*given)

    monkeypatch.setattr(encoder.encoder, "encode", watched)
    items = (item for source in plan.todo for item in track_source(job, source, frozenset()))
    encoder(crop_block(next(item for item in items if isinstance(item, Block)), job.crop_side))
    assert seen and all(seen)
    assert torch.backends.cudnn.deterministic == before


def test_a_video_is_opened_once_for_blocks_that_follow(
    tmp_path: Path, weights: Path, store: LatentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening goes through the whole file: for a block of a long video, that takes longer than reading."""
    for seed, name in enumerate(("anna", "ben")):
        make_video(tmp_path / "footage" / f"{name}.mp4", 150, seed)
    opened: list[str] = []

    def open_and_tell(path: Path) -> VideoReader:
        opened.append(path.stem)
        return open_video(path)

    monkeypatch.setattr("svgan_ray.orchestration.invert.encoding.open_video", open_and_tell)
    report = run(config_for(tmp_path / "footage", weights, store), store)
    assert report.clips_committed == 2 and opened == ["anna", "ben"]


@pytest.mark.parametrize("block_frames", [40, 100, 256])
def test_any_division_gives_the_same_bits(
    block_frames: int, weights: Path, store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the length of the segments that actors get, and wherever in the video the clip begins."""
    video = make_video(tmp_path / "v.mp4", 150, seed=1)
    points = face_points(150, seed=1)
    points[:13] = np.nan
    write_sidecar(video, points)
    whole, parts = (open_store(tmp_path / name, create=True) for name in ("whole", "parts"))
    clips = []
    for here in (whole, parts):
        report = run(config_for(video, weights, here, error_every_frames=3), here)
        [record] = here.commits(report.inversion_id)
        sizes = [chunk.frames for chunk in record.chunks]
        clips.append((sizes, here.read_clip(report.inversion_id, record.clip_id)))
        monkeypatch.setattr("svgan_ray.orchestration.invert.items.BLOCK_FRAMES", block_frames)
    (sizes, one), (other_sizes, other) = clips
    assert sizes != other_sizes and len(one.w_plus) == 137
    assert torch.equal(one.w_plus, other.w_plus)
    assert torch.equal(one.error.nan_to_num(-1), other.error.nan_to_num(-1))


def test_a_run_that_was_cut_off_goes_on_from_its_chunks(
    footage: Path, weights: Path, store: LatentStore, tmp_path: Path
) -> None:
    config = config_for(footage / "anna.mp4", weights, store)
    with pytest.raises(KeyboardInterrupt):
        run(config, store, die_after_chunks=1)
    report = run(config, store)
    assert (report.frames_encoded, report.frames_reused) == (150 - BLOCK_FRAMES, BLOCK_FRAMES)

    clean_store = open_store(tmp_path / "clean", create=True)
    clean = run(dataclasses.replace(config, store=clean_store.uri), clean_store)
    [here], [there] = store.commits(report.inversion_id), clean_store.commits(clean.inversion_id)
    assert [c.sha256 for c in here.chunks] == [c.sha256 for c in there.chunks]
    assert here.mean_error == pytest.approx(there.mean_error)


def test_a_second_run_has_nothing_to_do_and_says_so(footage: Path, weights: Path, store: LatentStore) -> None:
    config = config_for(footage / "ben.mp4", weights, store)
    run(config, store)
    report = run(config, store)
    assert report.is_idle and report.frames_encoded == 0 and report.exit_code == 0
    assert "nothing to do: 1 of 1 videos" in str(report._summary())


def test_new_weights_are_new_work_and_the_old_stays(
    footage: Path, weights: Path, store: LatentStore, tmp_path: Path
) -> None:
    config = config_for(footage / "ben.mp4", weights, store)
    first = run(config, store)
    other = run(dataclasses.replace(config, batch_frames=4), store)
    assert first.tracking_id == other.tracking_id and first.inversion_id != other.inversion_id
    assert store.committed_ids(first.inversion_id) == store.committed_ids(other.inversion_id)


def test_refined_latents_are_work_of_their_own_and_nearer(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(footage / "anna.mp4", weights, store)
    plain, refined = run(config, store), run(dataclasses.replace(config, refine_steps=2), store)
    assert plain.inversion_id != refined.inversion_id
    [clip] = store.committed_ids(plain.inversion_id)
    first, second = (store.read_clip(report.inversion_id, clip) for report in (plain, refined))
    assert first.w_plus.shape == second.w_plus.shape
    assert not torch.equal(first.w_plus, second.w_plus)
    assert torch.equal(first.quad, second.quad)
    assert torch.nanmean(second.error) < torch.nanmean(first.error)


def test_float16_halves_the_bytes_and_tells_what_it_costs(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    from svgan_ray.stylegan.weights import load_generator

    config = config_for(footage / "anna.mp4", weights, store)
    full = run(config, store)
    half_config = dataclasses.replace(config, float16=True)
    with pytest.raises(KeyboardInterrupt):
        run(half_config, store, die_after_chunks=1)
    half = run(half_config, store)  # goes on from a chunk that tells its part
    [clip] = store.committed_ids(full.inversion_id)
    exact, rounded = (store.read_clip(report.inversion_id, clip).w_plus for report in (full, half))
    assert torch.equal(rounded, exact.half().float())
    [before], [after] = store.commits(full.inversion_id), store.commits(half.inversion_id)
    assert store.read_chunk(after.chunks[0])["w_plus"].dtype == torch.float16
    assert before.float16_psnr_db is None
    with torch.no_grad():
        pictures = [load_generator(weights / "generator").synthesis(w[::25]) for w in (exact, rounded)]
    expected_db = -10 * float((pictures[0] - pictures[1]).div(2).square().mean().log10())
    assert after.float16_psnr_db == pytest.approx(expected_db, abs=1.0) and expected_db > 40


def test_a_perceptual_distance_is_another_refinement(
    footage: Path, weights: Path, store: LatentStore, tmp_path: Path
) -> None:
    (tmp_path / "vgg16.pt").write_bytes(script(LpipsProgram()))
    import_weights(tmp_path / "vgg16.pt", tmp_path / "weights")
    config = config_for(footage / "ben.mp4", weights, store, refine_steps=2)
    plain = run(config, store)
    likened = run(dataclasses.replace(config, refine_lpips=str(tmp_path / "weights")), store)
    assert plain.inversion_id != likened.inversion_id
    [clip] = store.committed_ids(plain.inversion_id)
    first, second = (store.read_clip(report.inversion_id, clip).w_plus for report in (plain, likened))
    assert not torch.equal(first, second)
    with pytest.raises(ConfigError, match="refine_lpips: expected none unless refine_steps is above 0"):
        dataclasses.replace(config, refine_steps=0, refine_lpips="weights")


def test_half_precision_is_an_inversion_of_its_own_and_near(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    config = config_for(footage / "ben.mp4", weights, store)
    full, half = run(config, store), run(dataclasses.replace(config, precision="bfloat16"), store)
    assert full.inversion_id != half.inversion_id
    [clip] = store.committed_ids(full.inversion_id)
    first, second = (store.read_clip(report.inversion_id, clip).w_plus for report in (full, half))
    assert first.dtype == second.dtype == torch.float32
    assert 0 < (first - second).square().mean().sqrt() < 0.05 * first.std()


def test_blocks_to_refine_bring_their_neighbours(footage: Path, weights: Path, store: LatentStore) -> None:
    plan, job = plan_for(config_for(footage / "anna.mp4", weights, store, refine_steps=2), store)
    items = track_source(job, plan.todo[0], frozenset())
    first, second = (item for item in items if isinstance(item, Block))
    assert (len(first.quad_before), len(first.quad_after)) == (0, 8)
    assert (len(second.quad_before), len(second.quad_after)) == (8, 0)
    assert np.array_equal(second.quad_before, first.quad[-8:])
    assert np.array_equal(first.quad_after, second.quad[:8])
    alone, along = (crop_block(block, job.crop_side).frames for block in (first, second))
    assert np.array_equal(alone[-16:], along[:16])


def test_subjects(footage: Path, weights: Path, store: LatentStore) -> None:
    config = config_for(footage / "ben.mp4", weights, store, subject="carl")
    report = run(config, store)
    assert {record.subject for record in store.commits(report.inversion_id)} == {"carl"}
    again = run(dataclasses.replace(config, subject="dora"), store)
    assert "keeps the subject" in again.notes[0]


def test_dry_run_makes_nothing(footage: Path, weights: Path, tmp_path: Path) -> None:
    config = InvertConfig(videos=(str(footage),), store=str(tmp_path / "none"), weights=str(weights))
    assert len(dry_run(config).todo) == 6
    assert not (tmp_path / "none").exists()


def test_the_run_that_tracks_a_video_tells_of_its_faces(
    tmp_path: Path, weights: Path, store: LatentStore
) -> None:
    gappy = face_points(80)
    gappy[20:24] = np.nan
    write_sidecar(make_video(tmp_path / "two" / "anna.mp4", 80), gappy)
    make_video(tmp_path / "two" / "ben.mp4", 40, seed=1)
    config = config_for(tmp_path / "two", weights, store)
    plan, job = plan_for(config, store)
    ledger = Ledger(store, job, {})
    for source in plan.todo:
        for item in track_source(job, source, frozenset()):
            ledger.take(item)
    faces = report_of(config, plan, ledger, 1.0).faces
    assert {Path(uri).name: (f.frames, f.gaps, f.gap_frames) for uri, f in faces.items()} == {
        "anna.mp4": (80, 1, 4),
        "ben.mp4": (40, 0, 0),
    }
    assert len(ledger.most_jittery) == 2
    assert all(item.sheet is not None and item.sheet.std() > 10 for item in ledger.most_jittery)
    assert not run(config, store).faces  # these tracks were found in the store


@pytest.mark.parametrize(
    ("people", "spans"),
    [
        ("longest", {("anna", 0, 80)}),
        ("2", {("anna", 0, 40)}),
        ("all", {("anna", 0, 80), ("anna-2", 0, 40)}),
    ],
)
def test_several_people_are_several_tracks(
    two_people: Path, weights: Path, store: LatentStore, people: str, spans: set[tuple[str, int, int]]
) -> None:
    report = run(config_for(two_people, weights, store, people=people), store)
    commits = list(store.commits(report.inversion_id))
    assert {(c.subject, c.first_frame, c.stop_frame) for c in commits} == spans
    [record] = store.tracks(report.tracking_id)
    assert [(s.first_frame, s.stop_frame) for s in record.skipped] == ([(40, 80)] if people == "2" else [])
    for commit in commits:
        centre = store.read_clip(report.inversion_id, commit.clip_id).quad.numpy().mean(axis=(0, 1))
        assert (centre[0] > 200) == (commit.stop_frame == 40)
    assert run(config_for(two_people, weights, store, people=people), store).is_idle


def test_an_inversion_can_stop_after_tracking_and_go_on_from_it(
    footage: Path, weights: Path, store: LatentStore
) -> None:
    report = track_only(footage / "anna.mp4", weights, store)
    assert report.summary()["clips tracked"].startswith("1 in") and not report.failures
    assert store.inversion_ids() == []
    [record] = store.tracks(report.tracking_id)
    assert record.landmarks is not None
    [points] = store.landmarks(record.landmarks).values()
    assert np.allclose(points.numpy(), face_points(150, seed=1))
    config = config_for(footage / "anna.mp4", weights, store)
    again, _ = plan_for(dataclasses.replace(config, until="tracks"), store)
    assert (len(again.done), again.todo) == (1, [])
    assert run(config, store).clips_committed == 1
    assert list(store.tracks(report.tracking_id)) == [record]
