"""What Ray's own helpers do with the file system on S3, and how checkpoints are uploaded to it."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, copy_files
from ray.train import Checkpoint
from ray.train._internal import storage as tune_storage
from ray.train.v2._internal.execution import storage as train_storage
from ray.train.v2._internal.execution.context import is_managed_checkpoint

from svgan_ray.errors import StoreError
from svgan_ray.orchestration.runtime.folders import filesystem
from svgan_ray.orchestration.runtime.worker_groups import Uploader
from tests.orchestration.runtime.s3_objects import PARTS, objects
from tests.s3_servers import FaultProxy


@pytest.fixture
def s3() -> FileSystem:
    return filesystem("s3://runs")[0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(PARTS)
    (folder / "deep" / "record.json").write_text("{}")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("helpers", [tune_storage, train_storage])
def test_rays_helpers_carry_a_folder(
    helpers: Any, s3: FileSystem, place: str, checkpoint: Path, tmp_path: Path
) -> None:
    helpers._upload_to_fs_path(str(checkpoint), s3, f"{place}/step-1")
    helpers._upload_to_fs_path(str(checkpoint / "deep" / "record.json"), s3, f"{place}/state.json")
    assert objects(place) == ["state.json", "step-1/deep/record.json", "step-1/weights.safetensors"]
    assert sorted(helpers._list_at_fs_path(s3, place)) == ["state.json", "step-1"]
    assert helpers._list_at_fs_path(s3, f"{place}/absent") == []
    assert helpers._exists_at_fs_path(s3, f"{place}/state.json")
    assert not helpers._exists_at_fs_path(s3, f"{place}/absent")

    helpers._download_from_fs_path(s3, f"{place}/step-1", str(tmp_path / "again"))
    helpers._download_from_fs_path(s3, f"{place}/state.json", str(tmp_path / "state.json"))
    assert content(tmp_path / "again") == content(checkpoint)
    assert (tmp_path / "state.json").read_text() == "{}"
    with pytest.raises(FileNotFoundError):
        helpers._download_from_fs_path(s3, f"{place}/absent", str(tmp_path / "absent"))

    delete = getattr(helpers, "delete_fs_path", None) or helpers._delete_fs_path
    delete(s3, f"{place}/step-1")
    delete(s3, f"{place}/state.json")
    assert objects(place) == []


def test_state_without_some_files_is_carried(s3: FileSystem, place: str, checkpoint: Path) -> None:
    tune_storage._upload_to_fs_path(str(checkpoint), s3, place, exclude=["*.safetensors"])
    assert objects(place) == ["deep/record.json"]


def test_rays_storage_takes_a_checkpoint(
    s3: FileSystem, place: str, checkpoint: Path, tmp_path: Path
) -> None:
    context = train_storage.StorageContext(place, "training", s3)
    kept = context.persist_current_checkpoint(Checkpoint.from_directory(checkpoint), "step-1")
    assert kept.path == f"{place}/training/step-1"
    assert is_managed_checkpoint(context, Checkpoint(kept.path, filesystem("s3://runs")[0]))
    assert content(Path(kept.to_directory(str(tmp_path / "again")))) == content(checkpoint)
    with kept.as_directory() as folder:
        assert content(Path(folder)) == content(checkpoint)
    copy_files(kept.path, f"{place}/copy", source_filesystem=s3, destination_filesystem=s3)
    assert len(objects(f"{place}/copy")) == 2


def test_a_failure_that_pyarrow_hides_is_logged(
    s3: FileSystem, proxy: FaultProxy, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.break_next("403 AccessDenied", method="PUT")
    with suppress(StoreError):  # for a pyarrow that tells
        copy_files(str(checkpoint / "deep"), "runs/hidden", LocalFileSystem(), s3)
    assert "not written: s3://runs/hidden/record.json: cannot write: access is forbidden" in caplog.text


def test_an_upload_is_tried_again(s3: FileSystem, proxy: FaultProxy, checkpoint: Path) -> None:
    folder = f"runs/{uuid.uuid4().hex}"
    uploader = Uploader(f"s3://{folder}", waits_s=(0.01, 0.01))
    proxy.break_next("403 AccessDenied", times=2, method="PUT")
    kept = uploader(Checkpoint.from_directory(checkpoint), "step-1")
    assert proxy.broken == 2
    assert (kept.path, kept.filesystem) == (f"{folder}/step-1", s3)
    assert objects(f"{folder}/step-1") == ["deep/record.json", "weights.safetensors"]
    proxy.break_next("403 AccessDenied", times=3, method="PUT")
    with pytest.raises(StoreError, match=r"checkpoint step-2 cannot be written: .*access is forbidden"):
        uploader(Checkpoint.from_directory(checkpoint), "step-2")
