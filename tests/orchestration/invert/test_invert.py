"""Inversion on a Ray cluster of two nodes, each with a GPU in name only; footage and store also on S3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
from PIL import Image
from ray.cluster_utils import Cluster

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.runtime.command_line import run_job
from svgan_ray.orchestration.runtime.machines import Processors
from svgan_ray.store import open_store
from svgan_ray.video.landmarks import sidecar_path
from tests.footage import make_bad_videos, make_video, make_weights
from tests.orchestration.faulty_workers import (
    ENLARGED,
    all_encoders_first,
    connected,
    held,
    nodes_at_work,
    wait_for,
)
from tests.s3_servers import moto_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with moto_server("footage") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)  # before Ray starts: its workers inherit it
        yield environment


@pytest.fixture(scope="module")
def two_nodes(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which their workers are met."""
    cluster, folder = Cluster(), tmp_path_factory.mktemp("workers")
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=150_000_000)
        with connected(cluster.address, folder), all_encoders_first():
            yield folder
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def config_for(videos: str | Path, weights: Path, store: str = "store") -> InvertConfig:
    return InvertConfig(
        videos=(str(videos),),
        store=store,
        weights=str(weights),
        batch_frames=8,
        actors="2",
        gpus_per_actor=1.0,
        experiment="tests",
        max_failure_fraction=1.0,
    )


def test_both_nodes_work_and_a_second_run_finds_nothing_to_do(
    two_nodes: Path, weights: Path, tmp_path: Path
) -> None:
    for seed in range(6):
        make_video(tmp_path / "footage" / f"subject-{seed}.mp4", 140 if seed == 0 else 40, seed)
    config = config_for(tmp_path / "footage", weights)
    with ThreadPoolExecutor(1) as pool:
        met = pool.submit(meet_both_nodes, two_nodes)
        report = invert(config)
        met.result()
    assert (report.clips_committed, report.frames_encoded, report.failures) == (6, 340, ())
    assert report.processors == Processors(2, "GPU")
    store = open_store(tmp_path / "store")
    commits = list(store.commits(report.inversion_id))
    assert {commit.subject for commit in commits} == {f"subject-{seed}" for seed in range(6)}
    nodes = {node for commit in commits for node in commit.node.split()}
    assert len(nodes) == 2, nodes

    run_is_in_mlflow(report.inversion_id)
    again = invert(config)
    assert again.is_idle and again.videos_done_before == 6 and again.frames_encoded == 0
    assert list(store.commits(report.inversion_id)) == commits


def meet_both_nodes(folder: Path) -> None:
    """One node could do all of so little by itself."""
    with held(folder, "encode"):
        wait_for(lambda: len(nodes_at_work(folder)) == 2, "both nodes")


def run_is_in_mlflow(inversion_id: str) -> None:
    """One finished run with settings, figures, and reconstructions: typical ones and the worst."""
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("tests")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["svgan_ray.link.inversion"] == inversion_id
    assert run.data.params["batch_frames"] == "8"
    assert run.data.metrics["frames_encoded"] == 340
    assert run.data.metrics["gpu_hours_per_footage_hour"] > 0
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"invert_report.json", "invert_report.html"} <= names
    pictures = [picture.path for picture in client.list_artifacts(run.info.run_id, "images")]
    for name in ("reconstructions+", "worst frames+"):
        [path] = [path for path in pictures if name in path and path.endswith(".png")]
        with Image.open(client.download_artifacts(run.info.run_id, path)) as sheet:
            assert sheet.height == 2 * ENLARGED * 32 + 2  # footage above, reconstructions below


def test_bad_files_fail_one_by_one_while_the_others_complete(
    two_nodes: Path, weights: Path, tmp_path: Path
) -> None:
    make_bad_videos(tmp_path / "footage")
    make_video(tmp_path / "footage" / "good.mp4", 40)
    report = invert(config_for(tmp_path / "footage", weights))
    assert report.clips_committed == 1
    failed = {Path(f.uri).name: f for f in open_store("store").failures(report.tracking_id).values()}
    assert failed.keys() == {"empty.mp4", "text.mp4", "truncated.mp4", "audio.mp4"}
    assert all(f.stage == "track" and f.reason and f.message for f in failed.values())
    assert invert(config_for(tmp_path / "footage", weights)).is_idle


def test_footage_and_store_on_s3(two_nodes: Path, weights: Path, tmp_path: Path, s3: dict[str, str]) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"])
    for seed, name in enumerate(("anna", "ben")):
        video = make_video(tmp_path / f"{name}.mp4", 40, seed)
        for file in (video, sidecar_path(video)):
            client.put_object(Bucket="footage", Key=f"raw/{file.name}", Body=file.read_bytes())
    config = config_for("s3://footage/raw", weights, "s3://footage/latents")
    report = invert(config)
    assert (report.clips_committed, report.failures) == (2, ())
    store = open_store("s3://footage/latents")
    for commit in store.commits(report.inversion_id):
        assert store.read_clip(report.inversion_id, commit.clip_id).w_plus.shape == (40, 8, 16)
    assert invert(config).is_idle


def test_files_of_any_name_are_inverted_or_refused_by_name(
    two_nodes: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    footage = tmp_path / "foot [red] ü"
    footage.mkdir()
    names = ["n" * 247 + ".mp4", "odd[x] 李 'q\" $HOME [dQw4w9WgXcQ].mp4", "-rf.mp4"]
    for seed, name in enumerate(names):
        make_video(tmp_path / f"{seed}.mp4", 40, seed).rename(footage / name)
    unkept = os.fsencode(footage) + b"/\xff\xfe.mp4"
    shutil.copy(footage / "-rf.mp4", unkept)
    flags = [
        "--videos",
        str(footage),
        "--store",
        "st'ore [b]",
        "--weights",
        str(weights),
        "--faces",
        "aligned",
    ]
    flags += ["--actors", "2", "--gpus-per-actor", "1"]

    assert run_job(InvertConfig, invert, argv=flags) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert "\\udcff\\udcfe.mp4:itsnameholdscontrolcharactersorisnoUTF-8" in shown, "the report is printed"
    store = open_store("st'ore [b]")
    commits = list(store.commits(store.inversion_ids()[0]))
    assert {commit.subject for commit in commits} == {name.removesuffix(".mp4") for name in names}

    flags[1] = os.fsdecode(unkept)
    assert run_job(InvertConfig, invert, argv=flags) == 2
    assert "videos: expected UTF-8 text" in " ".join(capsys.readouterr().err.split())
