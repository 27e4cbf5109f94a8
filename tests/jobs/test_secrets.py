"""Secrets planted where people keep them turn up nowhere that a job leaves anything."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from svgan_ray.runs.server import serve
from tests.footage import make_video, make_weights
from tests.jobs.conftest import ROOT, Head, running_head
from tests.s3_servers import moto_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PLANTED = {
    "AWS_ACCESS_KEY_ID": "PLANTEDACCESSKEY",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",
    "password in MLFLOW_TRACKING_URI": "planted-mlflow-password",
    ".env": "planted-in-a-dot-env-file",
}
BUCKET = "latents"


class Arguments(threading.Thread):
    """Collects the arguments of all processes, as `ps` shows them to everybody on the machine."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """A job that was submitted with its checkout; everything that it left anywhere, by place."""
    folder = tmp_path_factory.mktemp("mlflow")
    database = f"sqlite:///{folder}/mlflow.db"
    with moto_server(BUCKET) as s3, serve(database, str(folder / "artifacts"), log=folder / "log") as mlflow:
        s3 |= {name: value for name, value in PLANTED.items() if name.startswith("AWS_")}
        password = PLANTED["password in MLFLOW_TRACKING_URI"]
        mlflow_settings = {"MLFLOW_TRACKING_URI": mlflow.replace("://", f"://anna:{password}@")}
        with (
            running_head(tmp_path_factory.mktemp("checkout"), s3 | mlflow_settings) as head,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name, value in s3.items():
                patch.setenv(name, value)
            yield submit(head, tmp_path_factory.mktemp("client")) | contents(folder, "mlflow")


def submit(head: Head, folder: Path) -> dict[str, bytes]:
    for name in ("jobs", "svgan_ray", ".gitignore", ".rayignore", "experiment.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    (folder / ".env").write_text(f"AWS_SECRET_ACCESS_KEY={PLANTED['.env']}\n")
    make_weights(head.folder / "weights")
    make_video(head.folder / "footage" / "anna.mp4", 40, seed=1)
    arguments = Arguments()
    arguments.start()
    job = [
        "--videos",
        str(head.folder / "footage"),
        "--weights",
        str(head.folder / "weights"),
        "--actors",
        "1",
    ]
    command = ["job", "submit", "--working-dir", ".", "--", "python", "jobs/invert.py", *job]
    done = head.ray(*command, "--store", f"s3://{BUCKET}/store", cwd=folder)
    arguments.is_over.set()
    arguments.join()
    assert done.returncode == 0 and "clips committed" in done.stdout, done.stdout
    session = Path(head.environment["SVGAN_RAY_HEAD_DIR"])
    assert list(session.rglob("_ray_pkg_*/jobs/invert.py")), "the working directory did not travel"
    token = (Path(head.environment["HOME"]) / ".ray" / "auth_token").read_bytes().strip()
    return {
        "token": token,
        "log of the job": done.stdout.encode(),
        "arguments of processes": b"\n".join(arguments.seen),
        "log of the head": head.ray("job", "logs", job_id(head)).stdout.encode(),
        **contents(session, "Ray's folder"),
        **objects_in_the_bucket(),
    }


def job_id(head: Head) -> str:
    listing = head.ray("job", "list").stdout
    return next(word.strip("'\",") for word in listing.split("'") if word.startswith("raysubmit_"))


def contents(folder: Path, place: str) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 10**8)
    return {f"{place}: {path.relative_to(folder)}": path.read_bytes() for path in files}


def objects_in_the_bucket() -> dict[str, bytes]:
    from svgan_ray.store.s3 import S3Backend

    backend = S3Backend(BUCKET)
    return {f"bucket: {entry.key}": backend.get(entry.key) for entry in backend.list("")}


def test_the_run_left_what_it_is_looked_for_in(left_behind: dict[str, bytes]) -> None:
    assert any(place.startswith("bucket: store/commits/") for place in left_behind)
    assert any("jobs/invert.py" in place for place in left_behind)
    assert b"invert" in left_behind["mlflow: mlflow.db"]
    assert b"jobs/invert.py" in left_behind["arguments of processes"]
    assert len(left_behind["token"]) >= 32


@pytest.mark.parametrize("planted", [*PLANTED, "token"])
def test_a_planted_secret_is_nowhere(left_behind: dict[str, bytes], planted: str) -> None:
    secret = PLANTED[planted].encode() if planted in PLANTED else left_behind["token"]
    where = [place for place, content in left_behind.items() if secret in content and place != "token"]
    assert not where, f"{planted} stands in {where}"
