"""`ray job submit` as the documentation types it, against a head of `make cluster-up`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svgan_ray.orchestration.runtime.cluster_checks import check_submission
from svgan_ray.store import open_store
from tests.footage import make_video, make_weights
from tests.jobs.conftest import ROOT, Head

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def experiment(head: Head) -> Path:
    """A small experiment in the head's folder."""
    make_weights(head.folder / "weights")
    make_video(head.folder / "footage" / "anna.mp4", 40, seed=1)
    (head.folder / "experiment.toml").write_text(
        'experiment = "submitted"\nweights = "weights"\n[invert]\nvideos = ["footage"]\nactors = "1"\n'
    )
    return head.folder


def test_a_wrong_token_is_refused(head: Head, experiment: Path) -> None:
    done = head.ray("job", "submit", "jobs/invert.py", RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode != 0 and "uthentication" in done.stdout
    without = head.ray("job", "submit", "jobs/invert.py", RAY_AUTH_MODE="disabled")
    assert without.returncode != 0
    assert not (experiment / "store").exists()


def test_as_typed_in_the_checkout(head: Head, experiment: Path) -> None:
    done = head.ray("job", "submit", "jobs/invert.py")
    assert done.returncode == 0, done.stdout
    assert "clips committed" in done.stdout and "experiment.toml" in done.stdout
    [inversion_id] = open_store(experiment / "store").inversion_ids()
    assert (experiment / "mlflow.db").exists()

    again = head.ray("job", "submit", "jobs/invert.py")
    assert again.returncode == 0 and "nothing to do: 1 of 1 videos" in again.stdout, again.stdout
    assert open_store(experiment / "store").inversion_ids() == [inversion_id]


def test_with_an_uploaded_working_directory(head: Head, experiment: Path, tmp_path: Path) -> None:
    store, weights = str(tmp_path / "store"), str(experiment / "weights")
    environment = json.dumps({"env_vars": {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}})
    submit = ("job", "submit", "--working-dir", ".", "--runtime-env-json", environment, "--")
    job = ("python", "jobs/invert.py", "--videos", str(experiment / "footage"), "--weights", weights)

    done = head.ray(*submit, *job, "--store", store, "--actors", "1", cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert len(open_store(store).inversion_ids()) == 1
    assert (tmp_path / "mlflow.db").exists()

    refused = head.ray(*submit, *job, "--store", "store", cwd=ROOT)
    assert refused.returncode != 0
    assert "--store store: this job runs in Ray's copy of the working directory" in refused.stdout


def test_the_head_listens_on_loopback_only(head: Head) -> None:
    wanted = {int(head.address.rpartition(":")[2]), int(head.environment["SVGAN_RAY_HEAD_PORT"])}
    places = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            host, _, port = local.partition(":")
            if state == "0A" and int(port, 16) in wanted:  # listening
                places.add((host[-8:], int(port, 16)))
    loopback = "0100007F"
    assert places == {(loopback, port) for port in wanted}


def test_the_doctor_sees_the_cluster_from_outside_and_its_machines_from_inside(
    head: Head, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", (Path(head.environment["HOME"]) / ".ray/auth_token").read_text())
    assert check_submission(head.address).state == "ok"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert "refuses this token" in check_submission(head.address).found
    done = head.ray("job", "submit", "jobs/doctor.py")
    assert done.returncode == 0 and "jobs can run here" in done.stdout, done.stdout
    assert "1 machines" in done.stdout and "token accepted" in done.stdout
