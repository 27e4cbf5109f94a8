"""Debian's ffmpeg as the judge: what it makes of a file, frame by frame, is what leaves the reader."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svgan_ray.video.reading import open_video
from tests.video.media import DATA, Pixels, encode, numbered_frames, with_matrix

pytestmark = pytest.mark.cluster

DEINTERLACED = "bwdif=mode=send_frame:deint=interlaced,"


@pytest.fixture(scope="session")
def ffmpeg(system_program: Callable[[str], str]) -> str:
    return system_program("ffmpeg")


def rendered(ffmpeg: str, path: Path, width: int, height: int) -> Pixels:
    """The file as ffmpeg shows it: turned by itself, its fields woven, its pixels square."""
    command = [ffmpeg, "-v", "quiet", "-i", str(path), "-vf", f"{DEINTERLACED}scale=iw*sar:ih,setsar=1"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)
    assert len(data) % (width * height * 3) == 0, f"ffmpeg's pictures are not {width} x {height}"
    return data.reshape(-1, height, width, 3)


def assert_equal_to_ffmpeg(ffmpeg: str, path: Path, most: float) -> None:
    """Count, size and order, and pixels to `most` grey levels on average of each frame."""
    with open_video(path) as video:
        frames = video.read(0, video.info.frame_count)
        expected = rendered(ffmpeg, path, video.info.width, video.info.height)
        assert len(frames) == len(expected)
        assert np.all(np.diff(video.time_s) > 0)
        middle = len(frames) // 2
        assert np.array_equal(video.read(middle, middle + 2), frames[middle : middle + 2])
    error = np.abs(frames.astype(np.int16) - expected).mean(axis=(1, 2, 3))
    assert error.max() <= most, error


ENCODERS = {
    "mpeg1.mpg": "-c:v mpeg1video -b:v 2M -bf 2",
    "mpeg2.vob": "-c:v mpeg2video -b:v 2M -bf 2 -aspect 16:9",
    "interlaced.mpg": "-vf interlace -c:v mpeg2video -flags +ildct+ilme -b:v 3M",
    "dv.dv": "-s 720x576 -c:v dvvideo -pix_fmt yuv420p",
    "asp.avi": "-c:v mpeg4 -bf 2 -b:v 2M -vtag XVID",
    "mjpeg.avi": "-c:v mjpeg -q:v 3",
    "old.wmv": "-c:v wmv2 -b:v 2M",
    "old.flv": "-c:v flv1 -b:v 2M",
    "phone.3gp": "-s 176x144 -c:v h263 -b:v 500k",
    "free.ogv": "-c:v libtheora -q:v 7",
    "two_pass.webm": "-c:v libvpx -b:v 1M -auto-alt-ref 1 -lag-in-frames 10 -deadline realtime -cpu-used 8",
    "studio.mov": "-c:v prores_ks -profile:v 1",
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_and_containers_of_old_devices(tmp_path: Path, ffmpeg: str, name: str) -> None:
    path = tmp_path / name
    command = [
        ffmpeg,
        "-v",
        "error",
        "-i",
        str(DATA / "base.mp4"),
        "-frames:v",
        "40",
        *ENCODERS[name].split(),
    ]
    subprocess.run([*command, str(path)], check=True)
    assert_equal_to_ffmpeg(ffmpeg, path, most=1.5)


FILES = st.fixed_dictionaries(
    {
        "ending": st.sampled_from(["mp4", "mov", "mkv", "ts", "avi", "flv"]),
        "codec": st.sampled_from(["libx264", "mpeg4", "mpeg2video"]),
        "bframes": st.integers(0, 3),
        "frames": st.integers(13, 40),
        "matrix": st.sampled_from(
            [(1, 0, 0, 1), (-1, 0, 0, 1), (0, 1, 1, 0), (0, -1, 1, 0), (0.8, 0.6, -0.6, 0.8)]
        ),
        "pixel_aspect": st.sampled_from([None, Fraction(4, 3), Fraction(8, 9)]),
        "colours": st.tuples(st.sampled_from([1, 2, 5, 9]), st.sampled_from([0, 1, 2])),
        "start": st.integers(0, 50),
        "holes": st.sets(st.integers(1, 39), max_size=4),
    }
)


def written(path: Path, file: dict) -> Path:
    """A video of moving texture, with its colours tagged, a late start, and frames left out of its times."""
    times = [file["start"] + number for number in range(80) if number not in file["holes"]][: file["frames"]]
    codec = {"flv": "libx264"}.get(file["ending"], file["codec"])
    codec = "mpeg4" if codec == "mpeg2video" and file["ending"] not in ("ts", "mkv", "avi") else codec
    frames = numbered_frames(len(times))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=25, options={"bf": str(file["bframes"]), "g": "9", "b": "2M"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = file["colours"] if codec == "libx264" else (2, 0)
        if file["pixel_aspect"] is not None:
            context.sample_aspect_ratio = file["pixel_aspect"]
        for time, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if file["ending"] in ("mp4", "mov") and file["matrix"] != (1, 0, 0, 1):
        return with_matrix(path, path, file["matrix"])
    return path


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(file=FILES)
def test_any_file_comes_out_as_ffmpeg_renders_it(tmp_path: Path, ffmpeg: str, file: dict) -> None:
    turned = file["matrix"] == (0.8, 0.6, -0.6, 0.8)
    most = 6 if turned or file["pixel_aspect"] else 1.5  # interpolated otherwise
    assert_equal_to_ffmpeg(ffmpeg, written(tmp_path / f"a.{file['ending']}", file), most)


@pytest.mark.parametrize(
    "name", ["joined_MTS.ts", "midgop.ts", "xvid.avi", "h264_b.avi", "one_dup.mkv", "vp8_2pass.webm"]
)
def test_mended_files_come_out_as_ffmpeg_renders_them(ffmpeg: str, name: str) -> None:
    assert_equal_to_ffmpeg(ffmpeg, DATA / name, most=0.5)


def test_interlaced_h264(tmp_path: Path, ffmpeg: str) -> None:
    options = {"x264-params": "tff=1:keyint=12", "preset": "veryfast"}
    assert_equal_to_ffmpeg(ffmpeg, encode(tmp_path / "a.mp4", numbered_frames(30), options=options), most=1)
