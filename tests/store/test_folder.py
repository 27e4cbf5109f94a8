"""What the folder backend adds to the common promises: durability and clean failures."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from svgan_ray.errors import StoreAccessError, StoreError
from svgan_ray.store import LatentStore, open_store
from svgan_ray.store.folder import FolderBackend
from svgan_ray.store.verification import verify
from tests.store.samples import CLIP, INVERSION

ROOT = Path(__file__).parents[2]
ENDLESS_WRITER = """
import sys
from itertools import count
from dataclasses import replace
from svgan_ray.store import open_store
from tests.store.samples import commit_record, put_chunks
store = open_store(sys.argv[1], create=True)
for number in count():
    clip = f"{number:032x}"
    store.commit(commit_record(put_chunks(store, clip), clip))
    print("committed", flush=True)
"""


@pytest.fixture
def backend(tmp_path: Path) -> FolderBackend:
    return FolderBackend(tmp_path / "store")


def test_killed_writers_leave_whole_objects_only(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    for writer in writers * 3:
        assert writer.stdout is not None and writer.stdout.readline() == "committed\n"
    for writer in writers:
        writer.kill()
        writer.communicate()
    store = open_store(tmp_path)
    committed = store.committed_ids(INVERSION)
    assert len(committed) >= 3
    assert verify(store, deep=True).problems == []
    assert all(store.read_clip(INVERSION, clip).frames == 6 for clip in committed)


@pytest.mark.parametrize("verb", ["put", "put_if_absent"])
def test_content_is_durable_before_its_name(
    backend: FolderBackend, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced, then named; each folder that gained a name is synced."""
    log: list[str] = []

    def logged(function: str) -> None:
        original = getattr(os, function)

        def call(*arguments: Any) -> None:
            path = os.readlink(f"/proc/self/fd/{arguments[0]}") if function == "fsync" else arguments[1]
            log.append(f"{function} {Path(path).relative_to(backend.root.parent)}")
            original(*arguments)

        monkeypatch.setattr(os, function, call)

    for function in ("fsync", "replace", "link"):
        logged(function)
    getattr(backend, verb)("a/b/c", b"x")
    [temporary] = [line for line in log if line.startswith("fsync store/.temporary/")]
    assert log == [
        "fsync .",  # gained store/
        "fsync store",  # gained .temporary/
        "fsync store",  # gained a/
        "fsync store/a",  # gained b/
        temporary,
        f"{'replace' if verb == 'put' else 'link'} store/a/b/c",
        "fsync store/a/b",
    ]
    assert list((backend.root / ".temporary").iterdir()) == []


@pytest.mark.parametrize("verb", ["put", "put_if_absent"])
@pytest.mark.parametrize(
    ("code", "error", "named"),
    [
        (
            errno.ENOSPC,
            StoreError,
            "cannot write 3 bytes to a/b: the disk is full; free space and run the same",
        ),
        (errno.EDQUOT, StoreError, "the disk quota is used up"),
        (errno.EROFS, StoreAccessError, "the file system is read-only"),
        (errno.EACCES, StoreAccessError, "it is forbidden; check the folder's owner and mode"),
        (errno.EIO, StoreError, "Input/output error"),
    ],
)
def test_a_failed_write_says_why_and_leaves_nothing(
    backend: FolderBackend,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    code: int,
    error: type[Exception],
    named: str,
) -> None:
    backend.put("a/b", b"old")
    backend.delete("a/b")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(error, match=named):
            getattr(backend, verb)("a/b", b"new")
    assert list(backend.list("")) == list(backend.list(".temporary/")) == []
    backend.put("a/b", b"new")


def test_a_file_system_without_hard_links_is_refused(
    backend: FolderBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreAccessError, match=r"refuses hard links.*use a local disk, NFS or an s3://"):
        backend.put_if_absent("a", b"")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", "a/.", "a/"])
def test_keys_that_leave_the_folder_are_refused(backend: FolderBackend, key: str) -> None:
    for call in (backend.get, backend.stat, backend.delete, lambda key: backend.put(key, b"")):
        with pytest.raises(StoreError, match="is no key"):
            call(key)


def test_a_store_may_be_relative_and_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("store", create=True)
    store.put_source("/a.mp4", 1, "1", "ab" * 32)
    monkeypatch.chdir("/")
    assert len(store.sources()) == 1  # bound to where it was opened
    (tmp_path / "store").rename(tmp_path / "moved")
    assert len(open_store(tmp_path / "moved").sources()) == 1


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreAccessError, match="no latent store here"):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot write"):
        open_store(tmp_path / "file", create=True)
    store = LatentStore(FolderBackend(tmp_path / "nowhere"), "nowhere")
    assert store.get_commit(INVERSION, CLIP) is None and store.committed_ids(INVERSION) == set()


@pytest.mark.parametrize("uri", ["gs://bucket/x", "s3://", "s3:///x", "https://host/x"])
def test_other_places_are_refused(uri: str) -> None:
    with pytest.raises(Exception, match=r"expected a folder or s3://bucket/prefix"):
        open_store(uri)
