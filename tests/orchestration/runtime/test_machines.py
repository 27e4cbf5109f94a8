"""`--machines`: work is for spot or on-demand machines, which come when it waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from svgan_ray.config import InvertConfig, TrainConfig, TuneConfig
from svgan_ray.errors import ConfigError
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.runtime.machines import (
    await_machine,
    await_room,
    grows,
    label_selector,
    resources_of,
)
from svgan_ray.orchestration.runtime.worker_groups import use_gpu
from svgan_ray.orchestration.train.job import run as train
from svgan_ray.orchestration.tune.job import run as tune_study
from tests.footage import make_video, make_weights
from tests.motion import make_store, tiny
from tests.orchestration.autoscaled import autoscaled
from tests.orchestration.faulty_workers import Occupant, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

LABEL = "ray.io/market-type"
NODE_TYPES = {
    "invert": {"resources": {"CPU": 2, "GPU": 1}, "labels": {LABEL: "spot"}, "max_workers": 2},
    "train": {"resources": {"CPU": 1, "GPU": 1}, "labels": {LABEL: "on-demand"}, "max_workers": 2},
}


def machines_there() -> list[str]:
    """The label of each machine but the head."""
    return sorted(node["Labels"][LABEL] for node in ray.nodes() if LABEL in node["Labels"])


def machines_of(actor: str) -> list[str]:
    """The label of the machine of each actor that there was of a class."""
    label = {node["NodeID"]: node["Labels"].get(LABEL, "head") for node in ray.nodes()}
    here = ray.get_runtime_context().gcs_address
    return [label[a.node_id] for a in list_actors(address=here, filters=[("class_name", "=", actor)])]


def test_encoders_run_on_spot_machines_and_training_on_on_demand_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By an autoscaler that begins with a head alone and knows both kinds, as in cluster/aws.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    weights = str(make_weights(tmp_path / "weights"))
    video = make_video(tmp_path / "footage" / "anna.mp4", 40)
    make_store("motion", tmp_path / "weights")
    data: dict[str, Any] = {"store": "motion", "weights": weights, "temporal": tiny(20)}
    with autoscaled(NODE_TYPES):
        report = invert(InvertConfig((str(video),), "store", weights, machines="spot"))
        assert (report.clips_committed, machines_there()) == (1, ["spot"])
        assert "no spot machine that can do work yet: waiting for its first" in capsys.readouterr().err

        two = TrainConfig(**data, workers=2, gpu=False, sample_every_steps=20, machines="on-demand")
        assert train(two).finished.steps == 20
        assert machines_of("RayTrainWorker") == ["on-demand", "on-demand"]
        assert "2 workers need 2 CPUs, the cluster has 1: waiting" in capsys.readouterr().err
        assert machines_there() == ["on-demand", "on-demand", "spot"]

        tune_study(TuneConfig(**data, trials=2, rungs=1, machines="on-demand"))
        assert set(machines_of("ImplicitFunc")) == {"on-demand"}

        assert use_gpu(TrainConfig(workers=3)), "there are some, and more come"
        assert use_gpu(TrainConfig(workers=3, gpu=True, machines="spot"))
        assert "3 workers need 3 GPUs, the cluster has 1: waiting" in capsys.readouterr().err


@pytest.fixture
def labelled() -> Iterator[None]:
    """A cluster that does not grow: a spot machine with a GPU, and one without a label."""
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        cluster.add_node(num_cpus=2, num_gpus=1, labels={LABEL: "spot"}, object_store_memory=100_000_000)
        ray.init(address=cluster.address, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_where_no_machine_is_labelled_so_the_flag_changes_nothing(
    labelled: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not grows() and label_selector("any") == {}
    assert label_selector("spot") == {LABEL: "spot"} and resources_of("spot")["CPU"] == 2
    assert label_selector("on-demand") == {} and resources_of("on-demand")["CPU"] == 3
    await_machine("spot")
    assert capsys.readouterr().err == ""
    await_machine("on-demand")
    assert capsys.readouterr().err.startswith("no machine is labelled ray.io/market-type=on-demand: ")


def test_work_waits_for_room_and_says_so(labelled: None, capsys: pytest.CaptureFixture[str]) -> None:
    occupant = ray.remote(num_gpus=1)(Occupant).remote()
    ray.get(occupant.is_there.remote())
    wanted = "no machine has room for work with num_cpus=0.5, num_gpus=1: waiting for one"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_room, {"num_cpus": 0.5, "num_gpus": 1}, "spot")
        wait_for(lambda: wanted in capsys.readouterr().err, "it to say so")
        assert not waiting.done()
        ray.kill(occupant)
        waiting.result()


def test_a_cluster_that_does_not_grow_refuses_what_it_lacks(labelled: None) -> None:
    with pytest.raises(ConfigError, match="--gpu: 2 workers need 2 GPUs, the cluster has 1"):
        use_gpu(TrainConfig(workers=2, gpu=True))
    with pytest.raises(ConfigError, match="--workers: 3 workers need 3 CPUs, the cluster has 2"):
        use_gpu(TrainConfig(workers=3, machines="spot"))
    assert use_gpu(TrainConfig(workers=1)) and not use_gpu(TrainConfig(workers=3))
