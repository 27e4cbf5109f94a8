"""What leaves the reader looks as players show it: upright, square, whole, in SDR."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from svgan_ray.video.picture_rules import Orientation, orientation_of
from svgan_ray.video.reading import VideoReader, open_video
from tests.video.media import DATA, Pixels, encode, numbered_frames, rotated, with_matrix

EIGHT = [m for a, b in product((1, -1), repeat=2) for m in ((a, 0, 0, b), (0, a, b, 0))]


def everything(video: VideoReader) -> Pixels:
    return video.read(0, video.info.frame_count)


def mapped(frames: Pixels, matrix: tuple[int, int, int, int]) -> Pixels:
    """Each pixel put where the matrix says, by its centre."""
    a, b, c, d = matrix
    height, width = frames.shape[1:3]
    q, p = np.mgrid[:height, :width]
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    out = np.zeros((len(frames), y.max() + 1, x.max() + 1, 3), np.uint8)
    out[:, y, x] = frames
    return out


@pytest.mark.parametrize("matrix", EIGHT)
def test_all_eight_orientations(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    plain = encode(tmp_path / "plain.mp4", numbered_frames(15))
    with open_video(plain) as video:
        expected = mapped(everything(video), matrix)
    with open_video(with_matrix(plain, tmp_path / "a.mp4", matrix)) as video:
        assert (video.info.height, video.info.width) == expected.shape[1:3]
        assert np.array_equal(everything(video), expected)
        is_mirrored = matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0
        assert video.survey().rules == (("mirrored",) if is_mirrored else ())


def test_another_angle_turns_the_picture_within_its_sides(tmp_path: Path) -> None:
    frames = np.zeros((15, 64, 64, 3), np.uint8)
    frames[:, 4:16, 26:38] = 255  # above the middle
    sine, cosine = np.sin(np.radians(30)), np.cos(np.radians(30))
    plain = encode(tmp_path / "plain.mp4", frames)
    with open_video(with_matrix(plain, tmp_path / "a.mp4", (cosine, sine, -sine, cosine))) as video:
        picture = everything(video)[0]
        assert video.survey().rules == ("turned (30.00 degrees)",)
    assert picture.shape == (64, 64, 3)
    y, x = np.argwhere(picture[..., 1] > 128).mean(axis=0)
    assert (x - 31.5, y - 31.5) == pytest.approx((22 * sine, -22 * cosine), abs=0.7)


def test_a_matrix_of_zeros_turns_nothing() -> None:
    assert orientation_of(np.zeros(9, np.int32)) == Orientation()


@pytest.mark.parametrize(
    ("aspect", "sides"), [((4, 3), (128, 64)), ((8, 9), (85, 64)), ((16, 15), (102, 64)), ((1, 1), (96, 64))]
)
def test_pixels_are_square(tmp_path: Path, aspect: tuple[int, int], sides: tuple[int, int]) -> None:
    path = encode(tmp_path / "a.mp4", numbered_frames(15), pixel_aspect=Fraction(*aspect))
    plain = encode(tmp_path / "b.mp4", numbered_frames(15))
    with open_video(path) as video, open_video(plain) as narrow:
        assert (video.info.width, video.info.height) == sides
        wide, before = everything(video).mean(axis=0), everything(narrow).mean(axis=0)
        assert bool(video.survey().rules) == (aspect != (1, 1))
    columns = ((np.arange(sides[0]) + 0.5) / sides[0] * 96 - 0.5).clip(0, 95)
    low = np.floor(columns).astype(int).clip(0, 94)
    share = (columns - low)[:, None]
    expected = before[:, low] * (1 - share) + before[:, low + 1] * share
    assert np.abs(wide - expected).mean() < 4


def test_a_turned_picture_of_wide_pixels_is_as_high_as_its_frame_was_wide(tmp_path: Path) -> None:
    lying = encode(tmp_path / "lying.mp4", numbered_frames(15), pixel_aspect=Fraction(4, 3))
    with open_video(rotated(lying, tmp_path / "a.mp4", 90)) as video:
        assert (video.info.width, video.info.height) == (48, 96)
        assert everything(video).shape == (15, 96, 48, 3)


def test_an_aspect_that_cannot_be_right_is_told_and_left(tmp_path: Path) -> None:
    with open_video(encode(tmp_path / "a.mp4", numbered_frames(15), pixel_aspect=Fraction(16, 1))) as video:
        assert (video.info.width, video.info.height) == (96, 64)
        assert "16 times as wide" in video.info.warnings[0] and video.survey().rules == ()


def test_hlg_looks_as_its_sdr_source() -> None:
    with open_video(DATA / "hlg_iphone.mov") as video, open_video(DATA / "base.mp4") as base:
        error = np.abs(everything(video).astype(int) - base.read(0, 30))
        assert video.survey().rules == ("HDR (HLG to BT.709 by Möbius)",)
    assert error.mean() < 6


def pq_file(path: Path, frames: Pixels) -> Path:
    """SDR pictures as PQ, their white at 203 cd/m2, as zscale writes them."""
    light = (frames / 255) ** 2.4 @ np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    ).T
    power = (light * 203 / 10000) ** 0.1593017578125
    signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p10le"
        codec = stream.codec_context
        codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range = 9, 9, 16, 1
        for picture in (signal * 65535).round().astype(np.uint16):
            deep = av.VideoFrame.from_ndarray(picture, format="rgb48le")
            deep = deep.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            container.mux(stream.encode(deep))
        container.mux(stream.encode())
    return path


def test_pq_looks_as_its_sdr_source(tmp_path: Path) -> None:
    with open_video(DATA / "base.mp4") as base:
        sdr = base.read(0, 15)
    with open_video(pq_file(tmp_path / "a.mp4", sdr)) as video:
        assert np.abs(everything(video).astype(int) - sdr).mean() < 5
        assert video.survey().rules == ("HDR (PQ to BT.709 by Möbius)",)
        assert video.info.warnings == ()


def test_colours_that_may_be_hdr_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    options = {"x265-params": "log-level=none:colormatrix=bt2020nc:colorprim=bt2020"}
    encode(path, numbered_frames(15), codec="libx265", pix_fmt="yuv420p10le", options=options)
    with open_video(path) as video:
        assert "read as SDR" in video.info.warnings[0]


def woven(count: int) -> Pixels:
    """A bright bar that moves by 6 pixels from field to field, 60 fields a second, two in a frame."""
    fields = np.zeros((2 * count, 64, 96, 3), np.uint8)
    for number, field in enumerate(fields):
        left = 6 * number % 80
        field[:, left : left + 16] = 220
    frames = fields[::2].copy()
    frames[:, 1::2] = fields[1::2, 1::2]
    return frames


def combing(frames: Pixels) -> float:
    """How much a row differs from its two neighbours' mean."""
    rows = frames.astype(float)
    return float(np.abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).mean())


def test_interlaced_pictures_are_made_whole_wherever_reading_begins(tmp_path: Path) -> None:
    frames = woven(20)
    options = {"x264-params": "tff=1:keyint=8", "preset": "veryfast"}
    with open_video(encode(tmp_path / "a.mp4", frames, options=options)) as video:
        whole = everything(video)
        assert video.survey().rules == ("interlaced (bwdif)",)
        assert combing(frames) > 10 and combing(whole) < 1
        for start, stop in ((0, 1), (7, 9), (8, 12), (19, 20), (3, 20)):
            assert np.array_equal(video.read(start, stop), whole[start:stop]), (start, stop)


def test_pictures_of_another_size_are_fitted_into_the_first() -> None:
    with open_video(DATA / "size_change.ts") as video:
        frames = everything(video)
        assert frames.shape == (100, 256, 256, 3)
        assert video.survey().rules == ("changing size (fitted into the first)",)
        assert np.array_equal(video.read(49, 52), frames[49:52])
    assert abs(frames[49].mean() - frames[50].mean()) < 4, "the same scene goes on"
