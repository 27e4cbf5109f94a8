"""Footage on S3: what a prefix or glob names, one local copy a machine, room for the next ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svgan_ray.errors import ConfigError, VideoError
from svgan_ray.orchestration.runtime import sources
from svgan_ray.orchestration.runtime.choosing import choose, expand
from svgan_ray.orchestration.runtime.sources import local_copy
from svgan_ray.video.landmarks import sidecar_path
from tests.s3_servers import fault_proxy, moto_server


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket `footage` on a server, and an empty cache."""
    import boto3

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with moto_server("footage") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"])
        for key in (
            "raw/anna.mp4",
            "raw/anna.mp4.landmarks.safetensors",
            "raw/deep/ben.mov",
            "raw2/carl.mp4",
        ):
            client.put_object(Bucket="footage", Key=key, Body=f"content of {key}".encode())
        yield client
        client.close()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s3://footage", ["anna", "ben", "carl"]),
        ("s3://footage/raw", ["anna", "ben"]),
        ("s3://footage/raw/", ["anna", "ben"]),
        ("s3://footage/raw/anna.mp4", ["anna"]),
        ("s3://footage/raw/*.mov", ["ben"]),
        ("s3://footage/raw*/c*.mp4", ["carl"]),
    ],
)
def test_what_is_named(client: Any, pattern: str, names: list[str]) -> None:
    assert [source.name for source in expand([pattern])] == names


def test_markers_of_folders_are_none_and_brackets_mean_themselves_where_they_are_there(client: Any) -> None:
    for key in ("day [1]/", "day [1]/dora.mp4", "day 1/eve.mp4", "day [1]/.cache/f.mp4", "day [1]/notes.txt"):
        client.put_object(Bucket="footage", Key=key, Body=b"x")
    chosen = choose(["s3://footage/day [1]/"])
    assert [source.name for source in chosen.sources] == ["dora"]
    reasons = {item.place.rpartition("/")[2]: item.reason for item in chosen.passed_over}
    assert reasons == {"f.mp4": "hidden", "notes.txt": "no video"}
    assert [source.name for source in expand(["s3://footage/day [1]/dora.mp4"])] == ["dora"]
    assert [source.name for source in expand(["s3://footage/day [0-9]/*"])] == ["eve"]


def test_nothing_is_named(client: Any) -> None:
    with pytest.raises(ConfigError, match="no video found"):
        expand(["s3://footage/none"])


def test_a_copy_is_made_once_with_its_landmarks(client: Any) -> None:
    [source] = expand(["s3://footage/raw/anna.mp4"])
    path = local_copy(source)
    assert path.read_text() == "content of raw/anna.mp4"
    assert sidecar_path(path).read_text() == "content of raw/anna.mp4.landmarks.safetensors"
    client.delete_object(Bucket="footage", Key="raw/anna.mp4")
    assert local_copy(source) == path, "not fetched again"


def test_what_changed_or_went_after_planning_is_noticed(client: Any) -> None:
    anna, ben = expand(["s3://footage/raw"])
    client.put_object(Bucket="footage", Key="raw/anna.mp4", Body=b"something else")
    with pytest.raises(VideoError, match="changed"):
        local_copy(anna)
    client.delete_object(Bucket="footage", Key="raw/deep/ben.mov")
    with pytest.raises(VideoError, match="gone"):
        local_copy(ben)


def test_what_may_not_be_read_is_that_videos_failure(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [source] = expand(["s3://footage/raw/anna.mp4"])
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.refuse(403, "AccessDenied")
        with pytest.raises(VideoError, match=r"anna.mp4: cannot be fetched: .* access is forbidden"):
            local_copy(source)
        assert local_copy(source).read_text() == "content of raw/anna.mp4"


def test_an_object_that_changes_while_it_is_fetched(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [source] = expand(["s3://footage/raw/anna.mp4"])
    fetch = sources._fetch_object

    def change_meanwhile(*of_what: Any) -> None:
        fetch(*of_what)
        client.put_object(Bucket="footage", Key="raw/anna.mp4", Body=b"another video")

    monkeypatch.setattr(sources, "_fetch_object", change_meanwhile)
    with pytest.raises(VideoError, match="changed"):
        local_copy(source)
    folder = Path(tempfile.gettempdir()) / f"svgan-ray-videos-{os.getuid()}"
    assert not [path for path in folder.iterdir() if path.is_dir()], "nothing of it is kept"


def test_old_copies_make_room(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, ben, carl = expand(["s3://footage/raw", "s3://footage/raw2"])
    first, second = local_copy(anna), local_copy(ben)
    local_copy(anna)  # used again: ben's is the oldest now
    used_bytes = sum(file.stat().st_size for path in (first, second) for file in path.parent.iterdir())
    monkeypatch.setattr(sources, "CACHE_BYTES", used_bytes)
    third = local_copy(carl)
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
