"""What a run leaves in MLflow, over a SQLite database without a server."""

from __future__ import annotations

import math
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from mlflow import MlflowClient

from svgan_ray.errors import InputError, MlflowError
from svgan_ray.runs import open_run, replay

ROOT = str(Path(__file__).parents[2])
FLUSH_S = 240.0


def the_run(uri: str, identity: str = "run"):
    """The one run of `identity`; it fails if there are two."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("motion")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`svgan_ray.identity` = '{identity}'")
    return run


def points(uri: str, name: str, identity: str = "run") -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(the_run(uri, identity).info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def test_everything_told_stands_in_mlflow(open_training_run, uri, tmp_path):
    (tmp_path / "clip.txt").write_text("frames")
    gallery = tmp_path / "gallery"
    (gallery / "inner").mkdir(parents=True)
    (gallery / "inner" / "page.html").write_text("<p>")
    with open_training_run() as run:
        run.log_params({"basis_size": 64, "window_frames": 50})
        run.log_metrics({"loss/critic": -1.5, "grad (norm)": 2}, step=3)
        run.log_artifact(tmp_path / "clip.txt", folder="samples")
        run.log_artifact(gallery)
        run.log_input("anna", "a" * 64, "s3://bucket/store", "training")
        run.set_tags({"seed": 7})
        (tmp_path / "clip.txt").write_text("overwritten by the next step")
    run = the_run(uri)
    assert run.info.status == "FINISHED" and run.info.run_name == "run run"
    assert run.data.params == {"basis_size": "64", "window_frames": "50"}
    assert run.data.metrics == {"loss/critic": -1.5, "grad _norm_": 2.0}
    assert run.data.tags["seed"] == "7" and run.data.tags["svgan_ray.kind"] == "train"
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.dataset.source) == (
        "anna",
        "a" * 36,
        "s3://bucket/store",
    )
    artifacts = tmp_path / "mlartifacts" / "motion" / run.info.run_id / "artifacts"
    assert (artifacts / "samples" / "clip.txt").read_text() == "frames", "copied when it was logged"
    assert (artifacts / "gallery" / "inner" / "page.html").read_text() == "<p>"
    assert not [path for path in (tmp_path / "spool").iterdir() if path.is_dir()], (
        "a delivered spool is removed"
    )


def test_runs_that_share_something_are_a_click_away_and_a_persons_words_stay(open_training_run, uri):
    with open_training_run("train") as run:
        run.link({"inversion": "i" * 64})
        run.link({"model": "anna/step-10"})
    with open_training_run("sample") as run:
        run.link({"model": "anna/step-10"})
    client, run = MlflowClient(uri), the_run(uri, "train")
    note = run.data.tags["mlflow.note.content"]
    shown = re.findall(r"\[(.*?)\]\(#/experiments/(\d+)/runs\?searchFilter=(.*?)&workflowType", note)
    assert [name for name, _, _ in shown] == ["inversion " + "i" * 40, "model anna/step-10"]
    _, experiment, search = shown[1]
    found = client.search_runs([experiment], unquote(search))
    assert {one.info.run_name for one in found} == {"run train", "run sample"}
    client.set_tag(run.info.run_id, "mlflow.note.content", "the one with the odd blinks")
    with open_training_run("train") as run:
        run.link({"model": "anna/step-20"})
    tags = the_run(uri, "train").data.tags
    assert tags["mlflow.note.content"] == "the one with the odd blinks"
    assert tags["svgan_ray.link.model"] == "anna/step-20"


def test_a_run_names_the_code_and_the_machine_that_opened_it(open_training_run, uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # wherever a job is started: the commit is the package's
    with open_training_run():
        pass
    tags = the_run(uri).data.tags
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert tags.get("mlflow.source.git.commit", "") == commit.stdout.strip()
    assert tags["mlflow.source.name"] == Path(sys.argv[0]).name and tags["svgan_ray.version"]
    assert platform.node() in tags["svgan_ray.machine"]


def test_reopening_finds_the_run_and_changed_parameters_become_tags(open_training_run, uri):
    with open_training_run() as run:
        run.log_params({"steps": 100, "seed": 1})
        run.log_metrics({"loss": 1.0}, step=0)
    first = the_run(uri)
    with open_training_run() as run:
        run.log_params({"steps": 200, "seed": 1, "added": "x"})
        assert run.flush(FLUSH_S) and run.run_id == first.info.run_id
        assert the_run(uri).info.status == "RUNNING"
        run.log_metrics({"loss": 0.5}, step=1)
    run = the_run(uri)
    assert run.data.params == {"steps": "100", "seed": "1", "added": "x"}
    assert run.data.tags["changed_param.steps"] == "200" and "changed_param.seed" not in run.data.tags
    assert run.info.status == "FINISHED" and run.info.start_time == first.info.start_time
    assert points(uri, "loss") == [(0, 1.0), (1, 0.5)]


def test_steps_computed_twice_by_a_resume_are_one_point(open_training_run, uri):
    with open_training_run() as run:
        for step in range(10):
            run.log_metrics({"loss": 1 / (1 + step), "diverged": math.nan}, step)
    time.sleep(0.01)  # other timestamps
    with open_training_run() as run:
        for step in range(6, 14):
            run.log_metrics({"loss": 1 / (1 + step), "diverged": math.nan}, step)
        run.log_metrics({"loss": 9.0}, step=9)
    assert points(uri, "loss") == sorted([(step, 1 / (1 + step)) for step in range(14)] + [(9, 9.0)])
    assert len(points(uri, "diverged")) == 14


def test_a_child_hangs_below_its_parent_whichever_comes_first(open_training_run, uri):
    open_training_run("child", parent="study").finish()
    with open_training_run("study"):
        open_training_run("second child", parent="study").finish()
    study = the_run(uri, "study")
    assert study.info.run_name == "run study"
    for child in ("child", "second child"):
        assert the_run(uri, child).data.tags["mlflow.parentRunId"] == study.info.run_id


def test_images_of_one_key_make_a_step_slider(open_training_run, uri):
    picture = np.arange(40 * 600 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 600, 3)
    with open_training_run() as run:
        for step in (0, 5):
            run.log_image(picture, "validation/film strip", step)
    run = the_run(uri)
    names = sorted(file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id, "images"))
    steps = [name.split("+step+")[1].split("+")[0] for name in names]
    assert steps == ["0", "0", "5", "5"]
    assert all(name.startswith("images/validation~film strip+step+") for name in names)
    assert sorted(Path(name).suffix for name in names) == [".png", ".png", ".webp", ".webp"]
    assert run.data.tags["mlflow.loggedImages"] == "True"


def test_a_failure_inside_the_block_marks_the_run(open_training_run, uri):
    with pytest.raises(ZeroDivisionError), open_training_run():
        _ = 1 / 0
    assert the_run(uri).info.status == "FAILED"


def test_an_event_that_mlflow_refuses_is_set_aside_and_the_rest_arrives(
    open_training_run, uri, tmp_path, caplog
):
    with open_training_run() as run:
        run.log_metrics({"good": 1.0}, step=0)
        run.log_metrics({"../bad": 1.0}, step=0)
        run.log_metrics({"good": 2.0}, step=1)
    assert points(uri, "good") == [(0, 1.0), (1, 2.0)]
    (rejected,) = (tmp_path / "spool").rglob("rejected.jsonl")
    assert "../bad" in rejected.read_text() and "refuses" in caplog.text


def test_bad_input_is_told_to_the_caller(open_training_run, tmp_path):
    with open_training_run() as run:
        with pytest.raises(InputError, match="does not exist"):
            run.log_artifact(tmp_path / "missing.mp4")
        with pytest.raises(InputError, match="uint8"):
            run.log_image(np.zeros((4, 4, 3)), "key", 0)
    with pytest.raises(InputError, match="quotation"):
        open_training_run("it's")


KILLED = """
import os, signal, sys
from pathlib import Path
from svgan_ray.runs import open_run
run = open_run("motion", "killed", "train", "run", None, Path(sys.argv[1]), sys.argv[2])
for step in range(500):
    run.log_metrics({"loss": step / 7}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("recovery", ["reopen", "replay"])
def test_what_a_killed_process_left_is_delivered(open_training_run, uri, tmp_path, recovery):
    spool_dir = tmp_path / "spool"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(spool_dir), uri], cwd=ROOT, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    if recovery == "reopen":
        open_training_run().finish()
    else:
        assert replay(spool_dir, uri).delivered == ["run"]
        assert replay(spool_dir, uri).delivered == [], "nothing is left to replay"
    assert points(uri, "loss") == [(step, step / 7) for step in range(500)]


def test_no_server_costs_no_time_and_loses_nothing(open_training_run, uri, tmp_path):
    nobody = "http://127.0.0.1:9"
    run = open_training_run(uri=nobody)
    seconds = []
    for step in range(2000):
        started = time.perf_counter()
        run.log_metrics({"loss": float(step), "penalty": 1.0}, step)
        seconds.append(time.perf_counter() - started)
    run.log_image(np.zeros((8, 8, 3), np.uint8), "strip", 0)
    assert np.median(seconds) < 0.3e-3 and max(seconds) < 2, "a refused connection alone takes longer"
    assert not run.flush(30.0)
    run.finish()
    with pytest.raises(MlflowError, match="Nothing is lost"):
        replay(tmp_path / "spool", nobody)
    assert replay(tmp_path / "spool", uri).rejected_events == 0
    assert len(points(uri, "loss")) == 2000 and the_run(uri).info.status == "FINISHED"


TRIAL = """
import sys
from pathlib import Path
from svgan_ray.runs import open_run
number, spool_dir, uri = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
with open_run("motion", number, "trial", number, "study", spool_dir, uri) as run:
    for step in range(200):
        run.log_metrics({"loss": step + int(number), "other": 1.0}, step)
        if step % 100 == 0:
            run.flush(240)
"""


@pytest.mark.cluster
def test_many_processes_share_one_database(tmp_path):
    """The database does not exist yet, and all open the same parent."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-c", TRIAL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, str(number), str(tmp_path / "spool"), uri], cwd=ROOT, env=environment)
        for number in range(4)
    ]
    assert [process.wait(200) for process in processes] == [0] * 4
    parent = the_run(uri, "study")
    for number in range(4):
        assert points(uri, "loss", str(number)) == [(step, step + number) for step in range(200)]
        assert the_run(uri, str(number)).data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_a_full_disk_does_not_reach_the_caller(open_training_run, uri, monkeypatch, caplog):
    with open_training_run() as run:
        with monkeypatch.context() as patch:
            patch.setattr(type(run._spool), "append", _no_space)
            run.log_metrics({"loss": 1.0}, 0)
        run.log_metrics({"loss": 2.0}, 1)
    assert points(uri, "loss") == [(1, 2.0)] and "No space left" in caplog.text


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_default_uri_is_a_database_in_the_working_directory(tmp_path, monkeypatch):
    """The database is created although an interrupted creation left half of one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db.part").write_text("half a database")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = open_run("motion", "name", "demo", "identity")
    assert run.flush(FLUSH_S)
    run.finish()
    assert (tmp_path / "mlflow.db").exists()
    assert not list((tmp_path / "mlspool").iterdir()), "a delivered spool leaves nothing"


def test_a_server_that_never_answers_holds_nobody_up(open_training_run, uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = open_training_run(uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.perf_counter()
        for step in range(100):
            run.log_metrics({"loss": 1.0}, step)
        assert time.perf_counter() - started < 0.5
        assert not run.flush(0.5) and time.perf_counter() - started < 2.0
        run.finish()
    assert replay(tmp_path / "spool", uri).delivered == ["run"]
    assert len(points(uri, "loss")) == 100
