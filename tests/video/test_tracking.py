"""Every frame is in exactly one clip or skipped span; short gaps are filled in and marked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svgan_ray.errors import LandmarksError
from svgan_ray.video.alignment import CropParameters, ffhq_axes, quads_of
from svgan_ray.video.tracking import DAMAGED, NO_FACE, SHORT_CLIP, SkippedSpan, Track, skipped_by_all, track
from tests.footage import face_points

RUNS = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=8)


def with_gaps(seen: list[bool]) -> np.ndarray:
    points = face_points(len(seen))
    points[~np.array(seen, bool)] = np.nan
    return points


def times(frames: int) -> np.ndarray:
    return np.arange(frames) / 25


def spans(result: Track) -> list[tuple[int, int, str]]:
    clips = [(clip.first_frame, clip.stop_frame, "clip") for clip in result.clips]
    return sorted(clips + [(span.first_frame, span.stop_frame, span.reason) for span in result.skipped])


@settings(max_examples=150, deadline=None)
@given(runs=RUNS, max_gap=st.integers(0, 15), min_clip=st.integers(1, 40))
def test_every_frame_is_in_exactly_one_clip_or_skipped_span(
    runs: list[tuple[bool, int]], max_gap: int, min_clip: int
) -> None:
    seen = [face for face, length in runs for _ in range(length)]
    parameters = CropParameters(max_gap_frames=max_gap, min_clip_frames=min_clip)
    result = track(with_gaps(seen), times(len(seen)), parameters)

    covered = [frame for first, stop, _ in spans(result) for frame in range(first, stop)]
    assert covered == list(range(len(seen)))
    for clip in result.clips:
        assert clip.frames >= min_clip
        assert clip.quad.shape == (clip.frames, 4, 2)
        assert np.isfinite(clip.quad).all()
        assert clip.interpolated.tolist() == [not face for face in seen[clip.first_frame : clip.stop_frame]]
        assert longest_run(clip.interpolated) <= max_gap
        assert not clip.interpolated[0]
        assert not clip.interpolated[-1]
    for span in result.skipped:
        faces = seen[span.first_frame : span.stop_frame]
        assert any(faces) == (span.reason == SHORT_CLIP)
        if span.reason == SHORT_CLIP:
            assert len(faces) < min_clip
    for (_, stop, kind), (first, _, following) in zip(spans(result), spans(result)[1:], strict=False):
        assert stop == first
        assert NO_FACE in (kind, following)  # nothing but a long gap ends a clip


def longest_run(flags: np.ndarray) -> int:
    return max((len(run) for run in "".join("x" if flag else " " for flag in flags).split()), default=0)


def test_a_gap_of_ten_frames_is_filled_in_and_one_of_eleven_ends_the_clip() -> None:
    def gap(frames: int) -> list[bool]:
        return [True] * 30 + [False] * frames + [True] * 30

    assert spans(track(with_gaps(gap(10)), times(70))) == [(0, 70, "clip")]
    assert spans(track(with_gaps(gap(11)), times(71))) == [
        (0, 30, "clip"),
        (30, 41, NO_FACE),
        (41, 71, "clip"),
    ]


def test_short_clips_and_faceless_ends_are_skipped_with_their_reason() -> None:
    seen = [False] * 5 + [True] * 23 + [False] * 20 + [True] * 24 + [False] * 3
    assert spans(track(with_gaps(seen), times(75))) == [
        (0, 5, NO_FACE),
        (5, 28, SHORT_CLIP),
        (28, 48, NO_FACE),
        (48, 72, "clip"),
        (72, 75, NO_FACE),
    ]


@pytest.mark.parametrize("frames", [0, 30])
def test_a_video_without_a_face_has_no_clip(frames: int) -> None:
    result = track(np.full((frames, 68, 2), np.nan, np.float32), times(frames))
    assert result.clips == []
    assert spans(result) == ([(0, frames, NO_FACE)] if frames else [])


def test_a_gap_is_crossed_at_the_speed_of_the_face_though_frames_come_irregularly() -> None:
    time_s = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.08, 60))
    points = face_points(1) + 20 * time_s[:, None, None].astype(np.float32)
    expected = quads_of(*ffhq_axes(points))
    points[20:30] = np.nan
    [clip] = track(points, time_s).clips
    assert clip.quad == pytest.approx(expected, abs=1e-3)
    assert np.flatnonzero(clip.interpolated).tolist() == list(range(20, 30))


def test_clips_are_smoothed_apart() -> None:
    points = face_points(80)
    alone = track(points[50:], times(30)).clips[0].quad
    points[:30] += 500
    points[30:50] = np.nan
    assert track(points, times(80)).clips[1].quad == pytest.approx(alone)


def test_landmarks_of_another_length_are_refused() -> None:
    with pytest.raises(LandmarksError, match="40"):
        track(face_points(30), times(40))


@pytest.mark.parametrize("rate_hz", [25, 60])
def test_a_nod_stays_and_jitter_falls_from_the_first_frame_to_the_last(rate_hz: int) -> None:
    """The whole way from landmarks to quads: a nod of 2 Hz under white jitter of every landmark."""
    frames = 40 * rate_hz
    time_s = np.arange(frames) / rate_hz
    nod = np.stack([np.zeros(frames), 5 * np.sin(2 * np.pi * 2 * time_s)], axis=1)
    still = np.repeat(face_points(1).astype(np.float64), frames, axis=0)
    jitter = np.random.default_rng(0).normal(0, 0.5, still.shape)

    def quads(points: np.ndarray, parameters: CropParameters | None = None) -> np.ndarray:
        [clip] = track(points, time_s, parameters).clips
        assert (clip.first_frame, clip.stop_frame) == (0, frames)
        return clip.quad

    found = quads(still + nod[:, None])[:, :, 1].mean(axis=1) - quads(still)[:, :, 1].mean(axis=1)
    wave = np.exp(-2j * np.pi * 2 * time_s)
    middle = slice(rate_hz, -rate_hz)
    gain = np.mean(found[middle] * wave[middle]) / np.mean(nod[middle, 1] * wave[middle])
    assert abs(gain) >= 0.85
    assert abs(np.angle(gain)) < 1e-6

    raw, smooth = quads(still + jitter, CropParameters(0, 0)), quads(still + jitter)
    for part in (slice(None), slice(rate_hz // 5), slice(-rate_hz // 5, None)):
        centre = [q[part].mean(axis=1) - quads(still)[part].mean(axis=1) for q in (raw, smooth)]
        assert np.std(centre[1]) < np.std(centre[0])  # at the ends too
    centre = [q.mean(axis=1) for q in (raw, smooth)]
    axes = [q[:, 2] - q[:, 0] for q in (raw, smooth)]
    assert centre[0].std(axis=0).mean() / centre[1].std(axis=0).mean() >= 1.8
    assert axes[0].std(axis=0).mean() / axes[1].std(axis=0).mean() >= 3


def test_damaged_frames_are_gaps_whatever_was_found_in_them() -> None:
    points, is_damaged = face_points(200), np.zeros(200, bool)
    is_damaged[50:55] = is_damaged[100:140] = True
    found = track(points, np.arange(200) / 25, CropParameters(max_gap_frames=10), is_damaged)
    assert [(clip.first_frame, clip.stop_frame) for clip in found.clips] == [(0, 100), (140, 200)]
    assert np.flatnonzero(found.clips[0].interpolated).tolist() == [50, 51, 52, 53, 54]
    assert found.skipped == [SkippedSpan(100, 140, DAMAGED)]


def test_a_gap_is_divided_by_its_reasons() -> None:
    points, is_damaged = face_points(100), np.zeros(100, bool)
    points[40:50], is_damaged[50:60] = np.nan, True
    found = track(points, np.arange(100) / 25, CropParameters(max_gap_frames=5), is_damaged)
    expected = [SkippedSpan(40, 50, NO_FACE), SkippedSpan(50, 60, DAMAGED)]
    assert found.skipped == expected and skipped_by_all([found, found]) == expected
