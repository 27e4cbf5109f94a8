"""Files that players play and whose own times or packets are not right, as other programs wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svgan_ray.errors import VideoError
from svgan_ray.video.reading import VideoReader, open_video
from tests.video.media import (
    DATA,
    Pixels,
    damaged_in_the_middle,
    encode,
    numbered_frames,
    numbers_in,
)


def everything(video: VideoReader) -> Pixels:
    return video.read(0, video.info.frame_count)


def assert_spans_are_parts(video: VideoReader, whole: Pixels) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        start = int(rng.integers(0, len(whole)))
        stop = int(rng.integers(start + 1, min(start + 8, len(whole)) + 1))
        assert np.array_equal(video.read(start, stop), whole[start:stop]), (start, stop)


@pytest.mark.parametrize(
    ("name", "numbers", "mends"),
    [
        ("h264_b.avi", range(100), {"reordered": 78}),
        ("xvid.avi", [*range(97), 99], {"reordered": 64}),
        ("vp8_2pass.webm", range(100), {}),
        ("one_dup.mkv", range(100), {"doubled": 1}),
        ("midgop.ts", range(25, 100), {"undecodable": 5}),
        ("joined_MTS.ts", range(100), {"restarted": 1}),
    ],
)
def test_every_frame_comes_out_in_order(name: str, numbers: list[int], mends: dict[str, int]) -> None:
    with open_video(DATA / "base.mp4") as base, open_video(DATA / name) as video:
        frames, expected = everything(video), everything(base)[list(numbers)]
        assert frames.shape == expected.shape
        error = np.abs(frames[:, ::4, ::4].astype(int) - expected[:, ::4, ::4])
        assert error.mean(axis=(1, 2, 3)).max() < 6
        assert video.time_s == pytest.approx(np.arange(len(frames)) / 25, abs=2e-3)
        assert dict(video.info.mends) == mends
        survey = video.survey()
        assert survey.rules == () and not survey.is_damaged.any()
        assert_spans_are_parts(video, frames)


def test_frames_of_an_avi_are_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "a.avi", numbered_frames(40))) as video:
        frames = everything(video)
        assert numbers_in(frames) == list(range(40))
        assert video.time_s == pytest.approx(np.arange(40) / 25, abs=1e-6)
        assert_spans_are_parts(video, frames)


@pytest.mark.parametrize("name", ["zeros.mp4", "lostpackets.ts"])
def test_damage_reaches_to_the_next_keyframe_and_the_last_sound_picture_is_held(
    tmp_path: Path, name: str
) -> None:
    path = DATA / name if (DATA / name).exists() else damaged_in_the_middle(tmp_path / name)
    with open_video(path) as video, open_video(DATA / "base.mp4") as base:
        survey, frames, sound = video.survey(), everything(video), everything(base)
        assert np.flatnonzero(survey.is_damaged).tolist() == list(range(50, 75))
        assert survey.rules == ("damaged (the last sound picture is held)",)
        assert np.array_equal(frames[:50], sound[:50]) and np.array_equal(frames[75:], sound[75:])
        assert (frames[50:75] == sound[49]).all()
        for start, stop in ((50, 51), (60, 62), (49, 51), (74, 77), (75, 76)):
            assert np.array_equal(video.read(start, stop), frames[start:stop]), (start, stop)


def test_packets_that_the_decoder_refuses_are_damage(tmp_path: Path) -> None:
    """A frame of nothing but zeros gives no picture at all."""
    import av

    path = encode(
        tmp_path / "a.mkv", numbered_frames(60), options={"x264-params": "keyint=12:scenecut=0:bframes=0"}
    )
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [bytes(p) for p in container.demux(video=0) if p.size][29]
    place = data.index(packet)
    data[place : place + len(packet)] = bytes(len(packet))
    path.write_bytes(data)
    with open_video(path) as video:
        frames = everything(video)
        assert numbers_in(frames) == [*range(29), *[28] * 7, *range(36, 60)]
        assert np.flatnonzero(video.survey().is_damaged).tolist() == list(range(29, 36))
        assert_spans_are_parts(video, frames)


def test_a_file_of_which_nothing_can_be_decoded_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(20))
    data = path.read_bytes()
    first, size = data.index(b"mdat") + 4, int.from_bytes(data[data.index(b"mdat") - 4 :][:4])
    path.write_bytes(data[:first] + bytes(size - 8) + data[first + size - 8 :])
    with pytest.raises(VideoError, match="can be decoded") as caught:
        open_video(path)
    assert caught.value.reason == "decode"
