"""Where a job runs, and where its results may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from svgan_ray.errors import ClusterError, ConfigError
from svgan_ray.orchestration.runtime.cluster import connect, durable
from svgan_ray.orchestration.runtime.start import _ask_mlflow


def test_relative_places_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert durable("store", "--store") == str(tmp_path / "store")
    assert durable("/a/b", "--store") == "/a/b"
    assert durable("s3://bucket/prefix", "--store") == "s3://bucket/prefix"


def test_relative_places_are_refused_in_rays_copy_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(uploaded(tmp_path))
    with pytest.raises(ConfigError, match=r"--store store: this job runs in Ray's copy"):
        durable("store", "--store")
    assert durable("/shared/store", "--store") == "/shared/store"


def uploaded(folder: Path) -> Path:
    """A folder where Ray unpacks the working directory of a submitted job."""
    copy = folder / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    return copy


def test_a_run_that_would_vanish_with_the_job_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], silent_port: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    _ask_mlflow()
    assert capsys.readouterr().err == ""
    monkeypatch.chdir(copy := uploaded(tmp_path))
    _ask_mlflow()
    advice = "is removed with this job; set MLFLOW_TRACKING_URI to a server"
    assert capsys.readouterr().err == f"warning: MLflow: {copy / 'mlflow.db'} {advice}\n"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
    _ask_mlflow()
    assert "no answer" in (printed := capsys.readouterr().err) and "vanish with this job's folder" in printed


def test_an_address_for_submission_is_not_one_to_connect_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ConfigError, match="where jobs are submitted"), connect():
        pass


def test_a_cluster_that_is_gone_is_named_at_once(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent_port}")
    with pytest.raises(ClusterError, match="no cluster answers there"), connect():
        pass
