"""Every frame of real files comes out with its time; bad files end in one error."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from svgan_ray.errors import VideoError
from svgan_ray.video.reading import VideoReader, open_video
from tests.video.media import audio_only, cut_at_start, encode, numbered_frames, numbers_in, rotated

NTSC = Fraction(30000, 1001)
FAST_START = {"movflags": "+faststart"}
IRREGULAR = [int(time) for time in np.cumsum([1, 1, 3, 1, 2, 7, 1, 1, 4, 1] * 5)]


def everything(video: VideoReader) -> np.ndarray:
    return video.read(0, video.info.frame_count)


@pytest.mark.parametrize("sound", [False, True], ids=["silent", "sound"])
@pytest.mark.parametrize("rate", [24, 25, NTSC, 60], ids=["24", "25", "29.97", "60"])
def test_every_frame_is_read_with_its_time(tmp_path: Path, rate: Fraction | int, sound: bool) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(50), rate, sound=sound)
    with open_video(path) as video:
        assert numbers_in(everything(video)) == list(range(50))
        assert video.time_s == pytest.approx(np.arange(50) / float(rate), abs=1e-9)
        assert video.time_s.dtype == np.float64
        info = video.info
    assert (info.frame_count, info.width, info.height) == (50, 96, 64)
    assert info.frame_rate_hz == pytest.approx(float(rate), rel=1e-9)
    assert info.path == path


def test_variable_rate_keeps_every_time(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(50), 100, pts=IRREGULAR)
    with open_video(path) as video:
        assert numbers_in(everything(video)) == list(range(50))
        assert video.time_s == pytest.approx((np.array(IRREGULAR) - IRREGULAR[0]) / 100, abs=1e-9)
        assert video.info.frame_rate_hz == pytest.approx(49 / video.time_s[-1])


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("a.mp4", {"pix_fmt": "yuv444p"}),
        ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}}),
        ("a.mp4", {"codec": "libsvtav1", "options": {"preset": "12"}}),
    ],
    ids=["h264-444", "vp9-420", "av1"],
)
def test_odd_sides(tmp_path: Path, name: str, coding: dict) -> None:
    frames = numbered_frames(30, 97, 65)
    with open_video(encode(tmp_path / name, frames, **coding)) as video:
        assert (video.info.width, video.info.height) == (97, 65)
        read = everything(video)
    assert numbers_in(read) == list(range(30))
    assert np.abs(read.astype(int) - frames).mean() < 12


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    plain = encode(tmp_path / "plain.mp4", numbered_frames(20))
    with open_video(plain) as video:
        expected = np.rot90(everything(video), -degrees // 90, axes=(1, 2))
    with open_video(rotated(plain, tmp_path / "turned.mp4", degrees)) as video:
        assert (video.info.height, video.info.width) == expected.shape[1:3]
        assert np.array_equal(everything(video), expected)


def rotated_quarter(path: Path) -> Path:
    return rotated(encode(path.with_name("plain.mp4"), numbered_frames(60)), path, 90)


KINDS: dict[str, Callable[[Path], Path]] = {
    "b-frames.mp4": lambda path: encode(path, numbered_frames(60)),
    "variable.mp4": lambda path: encode(path, numbered_frames(50), 100, pts=IRREGULAR),
    "sound.mp4": lambda path: encode(path, numbered_frames(60), NTSC, sound=True),
    "turned.mp4": rotated_quarter,
    "444.mp4": lambda path: encode(path, numbered_frames(60, 97, 65), pix_fmt="yuv444p"),
    "full-range.mp4": lambda path: encode(path, numbered_frames(60), pix_fmt="yuvj420p"),
    "fragmented.mp4": lambda path: encode(
        path, numbered_frames(60), container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "hevc.mp4": lambda path: encode(
        path,
        numbered_frames(60),
        codec="libx265",
        options={"x265-params": "keyint=12:open-gop=0:log-level=none"},
    ),
    "film.mov": lambda path: encode(path, numbered_frames(60)),
    "film.mkv": lambda path: encode(path, numbered_frames(60)),
    "vp9.webm": lambda path: encode(
        path, numbered_frames(60), codec="libvpx-vp9", options={"cpu-used": "8", "g": "12"}
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_any_span_is_a_part_of_the_whole(tmp_path: Path, name: str) -> None:
    with open_video(KINDS[name](tmp_path / name)) as video:
        whole, count = everything(video), video.info.frame_count
        rng = np.random.default_rng(0)
        for _ in range(12):
            start = int(rng.integers(0, count))
            stop = int(rng.integers(start + 1, count + 1))
            assert np.array_equal(video.read(start, stop), whole[start:stop]), (start, stop)


@pytest.mark.parametrize(
    "coding",
    [{"pix_fmt": "yuv420p10le"}, {"pix_fmt": "yuv422p"}, {"codec": "libsvtav1", "options": {"preset": "12"}}],
    ids=["10-bit", "4:2:2", "av1"],
)
def test_other_pixel_formats_and_codecs(tmp_path: Path, coding: dict) -> None:
    with open_video(encode(tmp_path / "a.mp4", numbered_frames(40), **coding)) as video:
        assert numbers_in(video.read(17, 31)) == list(range(17, 31))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_leading_frames_of_open_gops_are_sought_exactly(tmp_path: Path, codec: str) -> None:
    params = "open-gop=1:bframes=3:keyint=10:min-keyint=10:scenecut=0:log-level=none"
    options = {f"{codec[3:]}-params": params}
    with open_video(encode(tmp_path / "a.mp4", numbered_frames(60), codec=codec, options=options)) as video:
        whole = everything(video)
        assert numbers_in(whole) == list(range(60))
        for start in range(60):
            assert np.array_equal(video.read(start, start + 1), whole[start : start + 1]), start


def test_transport_streams_seek_exactly_without_an_index(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "a.ts", numbered_frames(60))) as video:
        whole = everything(video)
        assert numbers_in(whole) == list(range(60))
        for start, stop in ((31, 40), (0, 3), (58, 60), (3, 9), (9, 12)):
            assert np.array_equal(video.read(start, stop), whole[start:stop])


def test_what_an_edit_list_cuts_away_is_not_read(tmp_path: Path) -> None:
    path = cut_at_start(encode(tmp_path / "a.mp4", numbered_frames(60)), tmp_path / "cut.mp4", 17 / 25)
    with open_video(path) as video:
        assert numbers_in(everything(video)) == list(range(17, 60))
        assert video.time_s == pytest.approx(np.arange(43) / 25, abs=1e-9)
        assert numbers_in(video.read(20, 24)) == [37, 38, 39, 40]


def test_one_frame_and_empty_spans(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "a.mp4", numbered_frames(1))) as video:
        assert (video.info.frame_count, video.info.frame_rate_hz) == (1, 25)
        assert video.time_s.tolist() == [0]
        assert numbers_in(everything(video)) == [0]
        assert video.read(1, 1).shape == (0, 64, 96, 3)
        with pytest.raises(IndexError, match="of 1"):
            video.read(0, 2)


def bad_files(folder: Path) -> dict[str, Path]:
    good = encode(folder / "good.mp4", numbered_frames(60), container_options=FAST_START)
    late_index = encode(folder / "late.mp4", numbered_frames(60))
    picture = folder / "picture.mp4"
    av_frame = numbered_frames(1)
    encode(folder / "picture.png", av_frame, codec="png", pix_fmt="rgb24", options={}).rename(picture)
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"just some words\n" * 200,
        "truncated.mp4": good.read_bytes()[: good.stat().st_size * 6 // 10],
        "truncated-no-index.mp4": late_index.read_bytes()[: late_index.stat().st_size * 6 // 10],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    audio_only(folder / "audio.mp4")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.mp4", "empty"),
        ("text.mp4", "not_a_video"),
        ("picture.mp4", "not_a_video"),
        ("truncated.mp4", "truncated"),
        ("truncated-no-index.mp4", "truncated"),
        ("audio.mp4", "no_video_stream"),
        ("absent.mp4", "missing"),
    ],
)
def test_a_bad_file_ends_in_one_typed_error(tmp_path: Path, name: str, reason: str) -> None:
    bad_files(tmp_path)
    with pytest.raises(VideoError, match=name) as caught:
        open_video(tmp_path / name)
    assert caught.value.reason == reason


@pytest.mark.parametrize("container_options", [FAST_START, {}], ids=["index-first", "index-last"])
def test_wherever_an_mp4_is_cut_off_it_is_truncated(tmp_path: Path, container_options: dict) -> None:
    data = encode(tmp_path / "a.mp4", numbered_frames(30), container_options=container_options).read_bytes()
    short = tmp_path / "short.mp4"
    complete = data.rindex(b"udta") - 4 if data.index(b"moov") > data.index(b"mdat") else len(data)
    for stop in range(8, complete, len(data) // 60):
        short.write_bytes(data[:stop])
        with pytest.raises(VideoError) as caught:
            open_video(short)
        assert caught.value.reason == "truncated", stop


@pytest.mark.parametrize("seed", range(25))
def test_damaged_files_read_or_raise_one_typed_error(tmp_path: Path, seed: int) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(20), container_options=FAST_START)
    data = np.fromfile(path, np.uint8)
    rng = np.random.default_rng(seed)
    data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
    data.tofile(path)
    try:
        with open_video(path) as video:
            read = everything(video)
            assert read.shape == (video.info.frame_count, video.info.height, video.info.width, 3)
            assert np.all(np.diff(video.time_s) > 0)
    except VideoError as error:
        assert error.reason
