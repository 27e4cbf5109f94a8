"""What counts as a video in a folder of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.video.containers import is_video_file, is_video_name
from tests.video.media import audio_only, encode, numbered_frames


@pytest.mark.parametrize(
    "name",
    ["a.MTS", "a.ts", "a.3gp", "a.wmv", "a.flv", "a.ogv", "a.gif", "a.mp4", "a.b.MKV", "a.mpg", "a.vob"],
)
def test_endings_of_videos(name: str) -> None:
    assert is_video_name(name)


@pytest.mark.parametrize("name", ["a.jpg", "a.mp3", "a.mp4.landmarks.safetensors", "mp4", "a", "a.srt"])
def test_endings_of_other_files(name: str) -> None:
    assert not is_video_name(name)


def test_files_of_unknown_endings_are_asked_what_they_are(tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", numbered_frames(5))
    for name in ("recording", "a.vid", "a.dat"):
        (tmp_path / name).write_bytes(video.read_bytes())
        assert is_video_file(tmp_path / name), name
    sound, picture, text = tmp_path / "sound.x", tmp_path / "picture.x", tmp_path / "text.x"
    audio_only(tmp_path / "sound.mp4").rename(sound)
    encode(tmp_path / "p.png", numbered_frames(1), codec="png", pix_fmt="rgb24", options={}).rename(picture)
    text.write_text("some words\n" * 100)
    (tmp_path / "empty.x").touch()
    for other in (sound, picture, text, tmp_path / "empty.x"):
        assert not is_video_file(other), other.name
