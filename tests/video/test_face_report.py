"""What a video's report says of footage whose gaps, people and jitter are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svgan_ray.video.face_report import FaceReport, face_report, face_sheet
from svgan_ray.video.people import find_people
from svgan_ray.video.reading import open_video
from svgan_ray.video.tracking import track
from svgan_ray.video.writing import write_video
from tests.footage import face_frames, face_points

FRAMES = 120


def report_of(points: np.ndarray, people: str = "longest") -> FaceReport:
    time_s = np.arange(len(points)) / 25
    found = find_people(points, time_s)
    chosen = found.chosen(people)
    return face_report(found, chosen, [track(one, time_s) for one in chosen])


def test_gaps_and_skipped_frames_are_counted() -> None:
    points = face_points(FRAMES)
    points[20:25] = points[30:33] = np.nan  # interpolated
    points[60:80] = np.nan  # too long: it ends the clip
    report = report_of(points)
    assert (report.frames, report.frames_with_face, report.faces) == (120, 92, 92)
    assert (report.people, report.followed, report.clips) == (1, 1, 2)
    assert (report.gaps, report.gap_frames, report.skipped_frames) == (2, 8, 20)


def test_people_and_those_followed_are_counted() -> None:
    one, other = face_points(FRAMES), face_points(FRAMES) + np.array([300, 0], np.float32)
    other[:40] = np.nan
    faces = np.stack([one, other], axis=1)
    report = report_of(faces)
    assert (report.people, report.followed, report.clips) == (2, 1, 1)
    assert (report.frames_with_face, report.faces) == (120, 200)
    assert (report_of(faces, "all").followed, report_of(faces, "all").clips) == (2, 2)


def test_jitter_is_that_of_the_landmarks_and_falls_by_smoothing() -> None:
    still = np.repeat(face_points(1), FRAMES, axis=0)
    assert report_of(still).found_jitter == pytest.approx(0, abs=1e-6)
    shaken = still + 0.5 * np.random.default_rng(0).standard_normal((FRAMES, 1, 2)).astype(np.float32)
    report = report_of(shaken)
    side_px = np.ptp(track(still, np.arange(FRAMES) / 25).clips[0].quad[0, :, 0])
    # White noise of 0.5 px in x and y: its second difference is sqrt(6) times as large.
    assert report.found_jitter == pytest.approx(0.5 * np.sqrt(2 * 6) / side_px, rel=0.1)
    assert report.crop_jitter is not None and report.found_jitter is not None
    assert report.crop_jitter < report.found_jitter / 1.8


def test_sheet_shows_the_clips_in_order_and_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    points, time_s = face_points(FRAMES), np.arange(FRAMES) / 25
    frames = face_frames(FRAMES)
    frames[60:] //= 2  # darker
    path = tmp_path / "video.mp4"
    write_video(path, frames, 25.0, {})
    tracks = [track(points, time_s)]
    with open_video(path) as video:
        sheet = face_sheet(video, tracks)
        assert sheet is not None and sheet.shape == (96, 8 * 98 - 2, 3)
        brightness = [sheet[:, 98 * i : 98 * i + 96].mean() for i in range(8)]
        assert min(brightness[:4]) > 1.5 * max(brightness[4:])
        assert face_sheet(video, [track(points[:10], time_s[:10])]) is None  # too short for a clip
