"""Which files footage is, and that a file which changes is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svgan_ray.errors import ConfigError, VideoError
from svgan_ray.orchestration.runtime.choosing import expand
from svgan_ray.orchestration.runtime.sources import Source, local_copy
from tests.footage import make_video


def test_expand(footage: Path, tmp_path: Path) -> None:
    assert [Path(s.uri).name for s in expand([str(footage)])] == [
        "anna.mp4", "audio.mp4", "empty.mp4", "text.mp4", "truncated.mp4", "ben.mp4",
    ]  # fmt: skip
    assert [s.name for s in expand([str(footage / "a*.mp4"), str(footage / "anna.mp4")])] == ["anna"]
    assert len(expand([str(footage / "**" / "*.mp4")])) == 6
    odd = tmp_path / "footage.dat"
    odd.write_bytes(b"x")
    assert [s.uri for s in expand([str(odd)])] == [str(odd)]


@pytest.mark.parametrize(("pattern", "words"), [("none.mp4", "no such file"), ("*.mp4", "no video found")])
def test_expand_names_what_is_not_there(tmp_path: Path, pattern: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        expand([str(tmp_path / pattern)])


def test_a_video_that_changes_under_its_path_is_noticed(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", 30)
    [source] = expand([str(video)])
    assert local_copy(source) == video
    os.utime(video, (1, 1))
    with pytest.raises(VideoError, match="changed") as caught:
        local_copy(source)
    assert caught.value.reason == "changed"
    video.unlink()
    with pytest.raises(VideoError, match="cannot be read"):
        local_copy(source)


def test_source_ids_follow_the_file(tmp_path: Path) -> None:
    source = Source("/a/b.mp4", 3, "1")
    assert source.name == "b"
    assert len({source.id, Source("/a/b.mp4", 4, "1").id, Source("/a/b.mp4", 3, "2").id}) == 3
