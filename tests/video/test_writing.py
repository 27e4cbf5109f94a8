"""Files that browsers play: H.264, 4:2:0, index first, right colours and times; whole or not there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from svgan_ray.errors import VideoError
from svgan_ray.video.reading import open_video
from svgan_ray.video.writing import SYNTHETIC_TAGS, VideoWriter, read_tags, write_video
from tests.video.media import numbered_frames, numbers_in


@pytest.mark.parametrize("rate", [24.0, 25.0, 30000 / 1001, 29.97, 60.0])
def test_every_frame_comes_back_at_its_time(tmp_path: Path, rate: float) -> None:
    frames = numbered_frames(50)
    write_video(tmp_path / "a.mp4", frames, rate)
    with open_video(tmp_path / "a.mp4") as video:
        read = video.read(0, 50)
        assert video.time_s == pytest.approx(np.arange(50) / rate, abs=1e-5)
    assert numbers_in(read) == list(range(50))
    assert np.abs(read.astype(int) - frames).mean() < 8


def test_browsers_can_play_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, numbered_frames(30), 30000 / 1001)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        [stream] = container.streams
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(30000, 1001)


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)], ids=["small", "hd"])
def test_colours_are_right_and_tagged(tmp_path: Path, size: tuple[int, int]) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 150, 120], [20, 60, 90]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (5, size[1], size[0], 3)).copy()
    write_video(tmp_path / "a.mp4", frames, 25)
    with open_video(tmp_path / "a.mp4") as video:
        read = video.read(0, 5).mean(axis=(1, 2))
    assert np.abs(read - colours).max() < 6
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


def test_tags_of_any_name_come_back(tmp_path: Path) -> None:
    tags = {**SYNTHETIC_TAGS, "seed": "7", "title": "Zoë, 10 s", "svgan_ray_model": "a" * 300}
    write_video(tmp_path / "a.mp4", numbered_frames(3), 25, tags)
    assert tags.items() <= read_tags(tmp_path / "a.mp4").items()
    assert "svgan-ray" in SYNTHETIC_TAGS["comment"]


@pytest.mark.parametrize("width", [96, 128])
def test_equal_frames_give_equal_bytes(tmp_path: Path, width: int) -> None:
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(40, width), 25, SYNTHETIC_TAGS)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_frames_may_come_in_pieces(tmp_path: Path) -> None:
    frames = numbered_frames(40)
    write_video(tmp_path / "whole.mp4", frames, 25)
    with VideoWriter(tmp_path / "pieces.mp4", 96, 64, 25) as writer:
        for start in range(0, 40, 7):
            writer.write(frames[start : start + 7])
    assert (tmp_path / "pieces.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_quality_follows_crf(tmp_path: Path) -> None:
    for crf in (10, 40):
        with VideoWriter(tmp_path / f"{crf}.mp4", 96, 64, 25, crf=crf) as writer:
            writer.write(numbered_frames(10))
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "40.mp4").stat().st_size


def test_nothing_is_visible_before_the_end_and_nothing_stays_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mp4"
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(path, 96, 64, 25) as writer:
        writer.write(numbered_frames(10))
        assert not path.exists()
        raise RuntimeError("stop")
    assert list(path.parent.iterdir()) == []


def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, numbered_frames(5), 25)
    before = path.read_bytes()
    with pytest.raises(VideoError, match="expected uint8"):
        write_video(path, np.zeros((5, 64, 96, 3)), 25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame") as caught, VideoWriter(tmp_path / "a.mp4", 96, 64, 25):
        pass
    assert caught.value.reason == "no_frames"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "height"), [(97, 64), (96, 65), (0, 0)])
def test_odd_sides_are_refused(tmp_path: Path, width: int, height: int) -> None:
    with pytest.raises(VideoError, match="even sides") as caught:
        VideoWriter(tmp_path / "a.mp4", width, height, 25)
    assert caught.value.reason == "odd_size"
