"""A real Prometheus, set up by cluster/prometheus.yml, sees what jobs on a cluster count."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
import requests
import yaml

from svgan_ray.config import InvertConfig, TrainConfig
from svgan_ray.orchestration.invert import invert
from svgan_ray.orchestration.train import train
from tests.footage import make_bad_videos, make_video
from tests.free_port import free_port
from tests.jobs.conftest import ROOT
from tests.motion import tiny
from tests.s3_servers import fault_proxy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FRAMES, STEPS = 150, 200
SEEN_WITHIN_S = 120


@pytest.fixture
def prometheus(tmp_path: Path, system_program: Callable[[str], str]) -> Iterator[str]:
    """The address of a Prometheus that scrapes this process's own cluster every second."""
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=150_000_000,
        logging_level="WARNING",
        _system_config={"metrics_report_interval_ms": 1000},
    )
    try:
        config = yaml.safe_load((ROOT / "cluster" / "prometheus.yml").read_text())
        config["global"]["scrape_interval"] = "1s"
        config["scrape_configs"][0]["file_sd_configs"][0]["refresh_interval"] = "1s"
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        with running(system_program("prometheus"), tmp_path) as address:
            yield address
    finally:
        ray.shutdown()


@contextmanager
def running(program: str, folder: Path) -> Iterator[str]:
    host = f"127.0.0.1:{free_port()}"
    flags = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb")
    with (folder / "prometheus.log").open("w") as log:
        command = [program, *flags, f"--web.listen-address={host}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{host}"
    finally:
        process.terminate()
        process.wait(30)


def asked(address: str, query: str) -> dict[tuple[str, ...], float]:
    """Values by those labels that are ours."""
    try:
        answer = requests.get(f"{address}/api/v1/query", {"query": query}, timeout=10).json()
    except requests.ConnectionError:  # not up yet
        return {}
    ours = ("outcome", "reason", "stage", "run")
    return {
        tuple(series["metric"][name] for name in ours if name in series["metric"]): float(series["value"][1])
        for series in answer["data"]["result"]
    }


def wait_for(address: str, query: str, condition: Callable[[Mapping[tuple[str, ...], float]], bool]) -> None:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not condition(found := asked(address, query)):
        assert time.monotonic() < deadline, f"{query}: {found}"
        time.sleep(0.5)


def test_prometheus_sees_what_an_inversion_and_a_training_count(
    s3: dict[str, str],
    prometheus: str,
    weights: Path,
    tracked_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_video(tracked_folder / "footage" / "anna.mp4", FRAMES, seed=1)
    make_bad_videos(tracked_folder / "footage")
    config = InvertConfig(
        videos=(str(tracked_folder / "footage"),),
        store="s3://motion/counted",
        weights=str(weights),
        batch_frames=8,
        actors="1",
        max_failure_fraction=1.0,
    )
    with fault_proxy(s3["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.break_next("reset", times=3, method="GET")
        report = invert(config)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"])
    assert report.clips_committed == 1 and len(report.failures) == 4

    wait_for(prometheus, "ray_svgan_frames_inverted_total", lambda found: found == {(): FRAMES})
    clips = {("committed",): 1.0} | {("failed", f.reason): 1.0 for f in report.failures}
    wait_for(prometheus, "sum by (outcome, reason) (ray_svgan_clips_total)", lambda found: found == clips)
    stages = {("decode",), ("encode",)}
    seconds = "sum by (stage) (ray_svgan_stage_seconds_total)"
    wait_for(prometheus, seconds, lambda found: found.keys() == stages and min(found.values()) > 0)
    wait_for(prometheus, "sum(ray_svgan_s3_retries_total)", lambda found: found == {(): 3.0})
    spool = "ray_svgan_spool_bytes"
    wait_for(prometheus, spool, lambda found: any(run.startswith("invert") for (run,) in found))

    train(
        TrainConfig(
            "s3://motion/counted",
            weights=str(weights),
            temporal=tiny(STEPS),
            checkpoint_every_steps=STEPS,
            sample_every_steps=STEPS,
            sample_seconds=1.0,
        )
    )
    speed = "max_over_time(ray_svgan_sequences_per_s[5m])"
    wait_for(prometheus, speed, lambda found: found.keys() == {("train demo",)} and min(found.values()) > 0)
