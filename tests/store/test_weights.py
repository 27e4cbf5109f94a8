"""Networks in the store: published once, fetched once a machine, never used unless every byte is right."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from svgan_ray.errors import ConflictError, CorruptObjectError, StoreAccessError, WeightsError
from svgan_ray.store import LatentStore, ObjectNotFoundError, keys, open_store
from svgan_ray.store.collection import collect
from svgan_ray.store.node_cache import cache_folder
from svgan_ray.store.records import ModelManifest
from svgan_ray.store.verification import verify
from svgan_ray.store.weights import local_face_model, local_weights, put_face_model, put_weights
from svgan_ray.stylegan.weights import RECORD, TENSORS, save_weights, weights_hash
from tests.full_disk import small_disk
from tests.store.conftest import S3_PLACES

ROOT = Path(__file__).parents[2]
RACER = """
import sys, time
from pathlib import Path
from svgan_ray.store import open_store
from svgan_ray.store.models import ModelStore
from svgan_ray.store.weights import local_weights

written = ModelStore.write_files
def write_files(self, manifest, folder):
    print("fetches", flush=True)
    time.sleep(1)  # so that the other one comes meanwhile
    written(self, manifest, folder)
ModelStore.write_files = write_files
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(local_weights(store, sys.argv[2]), flush=True)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a machine keeps, empty."""
    (tmp_path / "machine").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "machine"))
    return tmp_path / "machine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_network(tmp_path / "weights")


def make_network(folder: Path, source: str = "tests", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_weights(nn.Linear(8, 4), folder, {"made_by": source})
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("place", ["folder", *S3_PLACES])
def test_a_machine_gets_what_was_published(store: LatentStore, folder: Path) -> None:
    published = files(folder)
    sha256 = put_weights(store, folder)
    assert sha256 == weights_hash(folder)
    before = {entry.key: entry.modified_s for entry in store.backend.list("")}
    assert put_weights(store, folder) == sha256, "the second time there is nothing to write"
    assert {entry.key: entry.modified_s for entry in store.backend.list("")} == before
    shutil.rmtree(folder)

    copy = local_weights(store, sha256)
    assert files(copy) == published
    inode = (copy / TENSORS).stat().st_ino
    assert local_weights(store, sha256) == copy and (copy / TENSORS).stat().st_ino == inode
    assert verify(store, deep=True).problems == []


@pytest.mark.parametrize("place", ["folder", *S3_PLACES])
def test_a_face_model_travels_as_networks_do(store: LatentStore, tmp_path: Path) -> None:
    task = tmp_path / "mine.task"
    task.write_bytes(content := bytes(range(256)) * 40)
    sha256 = put_face_model(store, task)
    assert sha256 == hashlib.sha256(content).hexdigest() == put_face_model(store, task)
    task.unlink()

    copy = local_face_model(store, sha256)
    assert copy.read_bytes() == content and local_face_model(store, sha256) == copy
    copy.write_bytes(content[:-1] + b"?")
    assert local_face_model(store, sha256).read_bytes() == content
    assert verify(store, deep=True).problems == []
    [key] = [entry.key for entry in store.backend.list(f"models/weights/{sha256}/files/")]
    store.backend.put(key, b"swapped")
    copy.unlink()
    with pytest.raises(CorruptObjectError, match="differ from their sha256"):
        local_face_model(store, sha256)
    assert not copy.exists()


def test_a_copy_that_was_damaged_is_fetched_again(tmp_path: Path, folder: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, folder)
    copy = local_weights(store, sha256)
    for name in (TENSORS, RECORD):
        damaged = bytearray((copy / name).read_bytes())
        damaged[-3] ^= 1
        (copy / name).write_bytes(damaged)
        assert files(local_weights(store, sha256)) == files(folder)
        (copy / name).unlink()  # as a cleaner of temporary folders does
        assert files(local_weights(store, sha256)) == files(folder)
    assert {path.name for path in copy.parent.iterdir()} == {copy.name, f"{copy.name}.lock"}


def test_of_two_processes_on_a_machine_one_fetches(tmp_path: Path, folder: Path, own_cache: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, folder)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, store.uri, sha256],
            env={**os.environ, "TMPDIR": str(own_cache), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    printed = [line for racer in racers for line in racer.communicate(timeout=120)[0].splitlines()]
    copy = str(copy_of(store, sha256))
    assert sorted(printed) == sorted([copy, copy, "fetches"])
    assert files(Path(copy)) == files(folder)


def test_a_process_killed_while_fetching_is_in_nobodys_way(tmp_path: Path, folder: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, folder)
    copy = copy_of(store, sha256)
    half = copy.with_name(f"{copy.name}.partial")
    half.mkdir()
    (half / TENSORS).write_bytes(b"half")
    assert files(local_weights(store, sha256)) == files(folder)
    assert not half.exists()


def test_whoever_may_write_the_bucket_cannot_swap_the_tensors(tmp_path: Path, folder: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, folder)
    manifest_key = keys.model_manifest(f"weights/{sha256}")
    other = put_weights(store, make_network(tmp_path / "other", seed=1))
    theirs = store.record(ModelManifest, keys.model_manifest(f"weights/{other}"))
    assert theirs is not None
    store.backend.put(manifest_key, theirs.to_json())
    with pytest.raises(CorruptObjectError, match="names other tensors"):
        local_weights(store, sha256)
    store.backend.delete(manifest_key)
    with pytest.raises(ObjectNotFoundError, match="holds no weights"):
        local_weights(store, sha256)
    put_weights(store, folder)
    copy = copy_of(store, sha256)
    [tensors] = [e.key for e in store.backend.list(f"models/weights/{sha256}/") if e.key.endswith(TENSORS)]
    store.backend.put(tensors, b"swapped")
    with pytest.raises(CorruptObjectError, match="differ from their sha256"):
        local_weights(store, sha256)
    assert not copy.exists()


def test_the_same_tensors_are_one_network(tmp_path: Path, folder: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, folder)
    assert put_weights(store, make_network(tmp_path / "again", source="another import")) == sha256
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, "config": {"in_features": 8}}))
    with pytest.raises(ConflictError, match="another kind or configuration"):
        put_weights(store, folder)
    with pytest.raises(WeightsError, match="no weights folder"):
        put_weights(store, tmp_path / "none")


def test_stores_that_tell_otherwise_of_a_network_leave_each_other_their_copies(
    tmp_path: Path, folder: Path
) -> None:
    again = make_network(tmp_path / "again", source="another import")
    stores = [open_store(tmp_path / name, create=True) for name in ("one", "two")]
    hashes = {put_weights(store, path) for store, path in zip(stores, (folder, again), strict=True)}
    (sha256,) = hashes
    first, second = (local_weights(store, sha256) for store in stores)
    assert (files(first), files(second)) == (files(folder), files(again))


def test_garbage_collection_leaves_them_alone(tmp_path: Path, folder: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, folder)
    unfinished = put_weights(store, make_network(tmp_path / "other", seed=1))
    store.backend.delete(keys.model_manifest(f"weights/{unfinished}"))  # as where a job was killed
    collected = collect(store, dry_run=False, grace_s=-1).keys
    assert collected and all(key.startswith(f"models/weights/{unfinished}/") for key in collected)
    assert files(local_weights(store, sha256)) == files(folder)


def test_a_folder_that_others_may_write_is_not_trusted(own_cache: Path) -> None:
    folder = cache_folder("weights")
    folder.chmod(0o777)
    with pytest.raises(StoreAccessError, match="others may write there"):
        cache_folder("weights")
    folder.rmdir()
    folder.symlink_to(own_cache)
    with pytest.raises(StoreAccessError, match="others may write there"):
        cache_folder("weights")


def test_a_full_disk_is_named(tmp_path: Path, folder: Path, own_cache: Path) -> None:
    """On a file system of 64 KiB."""
    store = open_store(tmp_path / "store", create=True)
    sha256 = put_weights(store, make_big_network(tmp_path / "big"))
    with small_disk(own_cache, "64k"):
        with pytest.raises(StoreAccessError, match=r"No space left on device\); free space there"):
            local_weights(store, sha256)
        lock = f"{copy_of(store, sha256).name}.lock"
        assert [path.name for path in cache_folder("weights").iterdir()] == [lock]


def make_big_network(folder: Path) -> Path:
    save_weights(nn.Linear(1000, 100), folder, {"made_by": "tests"})
    return folder


def copy_of(store: LatentStore, sha256: str) -> Path:
    """Where this machine's copy of a network lies, or would."""
    manifest = store.record(ModelManifest, keys.model_manifest(f"weights/{sha256}"))
    assert manifest is not None
    return cache_folder("weights") / manifest.work_sha256
