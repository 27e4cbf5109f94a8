"""The file system that Ray gets on S3: every verb, and what it pickles."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem
from ray.train import Checkpoint

from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.orchestration.runtime.folders import filesystem
from svgan_ray.store.s3 import S3Backend
from tests.orchestration.runtime.s3_objects import MIB, PARTS, objects, write
from tests.s3_servers import FaultProxy

ROOT = Path(__file__).parents[3]


@pytest.fixture
def s3() -> FileSystem:
    return filesystem("s3://runs")[0]


def read(s3: FileSystem, path: str) -> bytes:
    with s3.open_input_stream(path) as stream:
        data: bytes = stream.read()
    return data


def names(s3: FileSystem, folder: str, recursive: bool = True) -> dict[str, FileType]:
    infos = s3.get_file_info(FileSelector(folder, recursive=recursive))
    return {info.path.removeprefix(f"{folder}/"): info.type for info in infos}


# Listing


def test_an_object_is_a_file_and_what_holds_one_a_folder(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/a/b/x", b"12345")
    file, *others = s3.get_file_info(
        [f"{place}/a/b/x", f"{place}/a/b", f"{place}/a/", "runs", f"{place}/a/b/absent", f"{place}/a/b/x/y"]
    )
    assert (file.type, file.size, file.base_name) == (FileType.File, 5, "x")
    assert file.mtime.timestamp() == S3Backend("runs").stat(file.path.removeprefix("runs/")).modified_s
    assert [info.type for info in others] == [*[FileType.Directory] * 3, *[FileType.NotFound] * 2]


def test_a_folder_is_listed(s3: FileSystem, place: str) -> None:
    for name in ("a/x", "a/b/c/y", "a/b/z", "ab/x"):
        write(s3, f"{place}/{name}")
    folder, file = FileType.Directory, FileType.File
    assert names(s3, f"{place}/a", recursive=False) == {"x": file, "b": folder}
    assert names(s3, f"{place}/a") == {"x": file, "b": folder, "b/c": folder, "b/c/y": file, "b/z": file}
    assert names(s3, f"{place}/a/b/c") == {"y": file}
    assert place.removeprefix("runs/") in names(s3, "runs", recursive=False)


def test_a_folder_that_another_program_marked(s3: FileSystem, place: str) -> None:
    backend = S3Backend(*place.split("/"))
    backend.put("a/", b"")
    backend.put("a/b/", b"")
    assert s3.get_file_info(f"{place}/a").type is FileType.Directory
    assert names(s3, f"{place}/a") == {"b": FileType.Directory}
    s3.delete_dir(f"{place}/a")
    assert objects(place) == []


def test_what_cannot_be_listed(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/x")
    assert s3.get_file_info(FileSelector(f"{place}/absent", allow_not_found=True)) == []
    with pytest.raises(FileNotFoundError, match=f"s3://{place}/absent"):
        s3.get_file_info(FileSelector(f"{place}/absent"))
    with pytest.raises(NotADirectoryError, match="is an object"):
        s3.get_file_info(FileSelector(f"{place}/x"))


def test_paths_are_normalized(s3: FileSystem) -> None:
    assert s3.normalize_path("/runs//a/") == "runs/a"


# Changing


def test_making_a_folder_leaves_nothing_behind(s3: FileSystem, place: str) -> None:
    s3.create_dir(f"{place}/a/b")
    assert s3.get_file_info(f"{place}/a").type is FileType.NotFound
    assert objects(place) == []


def test_a_folder_is_deleted_and_its_neighbours_are_not(s3: FileSystem, place: str) -> None:
    for name in ("a/x", "a/b/y", "ab", "c/z", "c/d/z"):
        write(s3, f"{place}/{name}")
    s3.delete_dir(f"{place}/a")
    assert objects(place) == ["ab", "c/d/z", "c/z"]
    s3.delete_dir_contents(f"{place}/c")
    assert objects(place) == ["ab"]
    s3.delete_dir_contents(f"{place}/c", missing_dir_ok=True)
    with pytest.raises(FileNotFoundError):
        s3.delete_dir(f"{place}/c")
    with pytest.raises(FileNotFoundError):
        s3.delete_dir_contents(f"{place}/c")


def test_a_bucket_is_not_deleted(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/x")
    for path in ("runs", "runs/"):
        with pytest.raises(ValueError, match="a whole bucket"):
            s3.delete_dir(path)
    with pytest.raises(NotImplementedError):
        s3.delete_dir_contents("", accept_root_dir=True)
    assert objects(place) == ["x"]


def test_a_file_is_deleted_copied_and_moved(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/x", PARTS)
    s3.copy_file(f"{place}/x", f"{place}/a/y")
    assert objects(place) == ["a/y", "x"]
    s3.move(f"{place}/a/y", f"{place}/b/z")
    s3.delete_file(f"{place}/x")
    assert objects(place) == ["b/z"]
    assert read(s3, f"{place}/b/z") == PARTS
    for verb in (s3.delete_file, lambda path: s3.move(path, "runs/x"), lambda path: s3.copy_file(path, "x")):
        with pytest.raises(FileNotFoundError):
            verb(f"{place}/x")


# Reading


def test_a_file_is_read_at_any_place(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/x", PARTS)
    with s3.open_input_file(f"{place}/x") as file:
        assert file.size() == len(PARTS)
        assert file.read(10) == PARTS[:10]
        assert file.read_at(100, 8 * MIB - 50) == PARTS[8 * MIB - 50 : 8 * MIB + 50]
        file.seek(-5, os.SEEK_END)
        assert (file.tell(), file.read(10), file.read(10)) == (len(PARTS) - 5, PARTS[-5:], b"")
        file.seek(0)
        assert file.read() == PARTS


def test_small_reads_ask_the_server_once(s3: FileSystem, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(s3, f"{place}/x", pickle.dumps(list(range(100_000))))
    asked: list[str] = []
    get = S3Backend.get

    def counted(self: S3Backend, key: str, *span: int) -> bytes:
        asked.append(key)
        return get(self, key, *span)

    monkeypatch.setattr(S3Backend, "get", counted)
    with s3.open_input_file(f"{place}/x") as file:
        assert pickle.load(file) == list(range(100_000))
    assert len(asked) == 1


def test_an_absent_or_empty_file(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/a/empty", b"")
    assert s3.get_file_info(f"{place}/a/empty").size == 0
    assert read(s3, f"{place}/a/empty") == b""
    for path in (f"{place}/absent", f"{place}/a", "runs"):
        for opened in (s3.open_input_stream, s3.open_input_file):
            with pytest.raises(FileNotFoundError, match=f"s3://{path}: there is no such"):
                opened(path)


def test_a_body_that_is_cut_off_is_read_again(s3: FileSystem, proxy: FaultProxy) -> None:
    write(s3, "runs/cut", PARTS)
    proxy.break_next("cut_body", times=3, method="GET")
    assert read(s3, "runs/cut") == PARTS
    assert proxy.broken == 3


# Writing


def test_an_object_appears_when_its_stream_is_closed(s3: FileSystem, place: str) -> None:
    write(s3, f"{place}/x", b"old")
    with s3.open_output_stream(f"{place}/x") as stream:
        for start in range(0, len(PARTS), MIB):
            stream.write(PARTS[start : start + MIB])
        assert stream.tell() == len(PARTS)
        stream.flush()
        assert read(s3, f"{place}/x") == b"old"
    assert read(s3, f"{place}/x") == PARTS


def test_a_writer_that_fails_leaves_nothing_behind(s3: FileSystem, place: str) -> None:
    with pytest.raises(ZeroDivisionError), s3.open_output_stream(f"{place}/x") as stream:
        stream.write(b"half")
        stream.write(bytes(1 // 0))
    dropped = s3.open_output_stream(f"{place}/y")
    dropped.write(b"half")
    del dropped
    assert objects(place) == []


def test_a_copy_whose_source_fails_leaves_nothing_behind(s3: FileSystem, proxy: FaultProxy) -> None:
    write(s3, "runs/source", PARTS)
    proxy.break_next("cut_body", times=5, method="GET")
    with pytest.raises(StoreError):
        s3.copy_file("runs/source", "runs/copy")
    assert s3.get_file_info("runs/copy").type is FileType.NotFound


def test_an_object_is_written_while_another_exception_is_handled(s3: FileSystem, place: str) -> None:
    try:
        raise KeyError("what the writer saves")
    except KeyError:
        write(s3, f"{place}/x")
    assert read(s3, f"{place}/x") == b"weights"


def test_an_upload_that_is_refused_leaves_nothing_behind(s3: FileSystem, proxy: FaultProxy) -> None:
    stream = s3.open_output_stream("runs/refused")
    stream.write(PARTS)
    proxy.break_next("403 AccessDenied", method="PUT")
    with pytest.raises(StoreAccessError, match=r"s3://runs/refused: cannot write: access is forbidden"):
        stream.close()
    assert s3.get_file_info("runs/refused").type is FileType.NotFound
    client = boto3.Session().client("s3")
    assert "Uploads" not in client.list_multipart_uploads(Bucket="runs")
    client.close()


def test_an_object_cannot_grow(s3: FileSystem, place: str) -> None:
    with pytest.raises(NotImplementedError, match="cannot be appended to"):
        s3.open_append_stream(f"{place}/x")
    with pytest.raises(ValueError, match="expected bucket/key"):
        s3.open_output_stream("runs")


def test_refusals_say_what_to_do(s3: FileSystem, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreAccessError, match="the bucket does not exist"):
        s3.get_file_info(FileSelector("nowhere/x"))
    with pytest.raises(StoreAccessError, match="the bucket does not exist"):
        write(s3, "nowhere/x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(StoreAccessError, match="no complete credentials found"):
        s3.get_file_info(f"{place}/x")


# Pickling


def test_it_is_pickled_without_a_secret(
    s3: FileSystem, place: str, server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    for name, value in {"AWS_ACCESS_KEY_ID": "the-name", "AWS_SECRET_ACCESS_KEY": "the-secret"}.items():
        monkeypatch.setenv(name, value)
    write(s3, f"{place}/x")  # a client with these keys is open
    for pickled in (pickle.dumps(s3), cloudpickle.dumps(s3), cloudpickle.dumps(Checkpoint(place, s3))):
        for secret in ("the-name", "the-secret", server["AWS_ENDPOINT_URL"]):
            assert secret.encode() not in pickled
    again = pickle.loads(pickle.dumps(s3))
    assert read(again, f"{place}/x") == b"weights"
    assert again == s3 == filesystem("s3://other/place")[0]
    assert s3 != LocalFileSystem()
    assert "s3" in s3.type_name


def test_another_process_finds_credentials_where_the_store_does(
    s3: FileSystem, place: str, server: dict[str, str], tmp_path: Path
) -> None:
    """Keys, endpoint and region are in a profile alone; pyarrow's own file system reads no endpoint there."""
    write(s3, f"{place}/x")
    keys = [f"aws_access_key_id = {server['AWS_ACCESS_KEY_ID']}"]
    keys += [f"aws_secret_access_key = {server['AWS_SECRET_ACCESS_KEY']}"]
    (tmp_path / "keys").write_text("\n".join(["[lab]", *keys]))
    rest = ["region = eu-west-1", f"endpoint_url = {server['AWS_ENDPOINT_URL']}"]
    (tmp_path / "config").write_text("\n".join(["[profile lab]", *rest]))
    (tmp_path / "pickled").write_bytes(pickle.dumps(s3))
    program = (
        "import pathlib, pickle, sys\n"
        "s3 = pickle.loads(pathlib.Path('pickled').read_bytes())\n"
        f"print(s3.open_input_stream({f'{place}/x'!r}).read().decode())\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "keys", "AWS_PROFILE": "lab"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, **files, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "weights\n", done.stderr
