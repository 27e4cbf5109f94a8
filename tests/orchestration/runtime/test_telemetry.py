"""A real Prometheus, set up by cluster/prometheus.yml, sees what jobs on a cluster count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from svgan_ray.config import InvertConfig, TrainConfig
from svgan_ray.orchestration.invert.job import run as invert
from svgan_ray.orchestration.train.job import run as train
from tests.footage import make_bad_videos, make_video
from tests.motion import tiny
from tests.prometheus_server import scraping, wait_to_see
from tests.s3_servers import fault_proxy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FRAMES, STEPS = 150, 200


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
        with scraping(Path("/tmp/ray"), tmp_path, system_program("prometheus")) as address:
            yield address
    finally:
        ray.shutdown()


def test_prometheus_sees_what_an_inversion_and_a_training_count(
    s3: dict[str, str],
    prometheus: str,
    weights: Path,
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_video(work_folder / "footage" / "anna.mp4", FRAMES, seed=1)
    make_bad_videos(work_folder / "footage")
    config = InvertConfig(
        videos=(str(work_folder / "footage"),),
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

    wait_to_see(prometheus, "ray_svgan_frames_inverted_total", lambda found: found == {(): FRAMES})
    clips = {("committed",): 1.0} | {("failed", f.reason): 1.0 for f in report.failures}
    wait_to_see(prometheus, "sum by (outcome, reason) (ray_svgan_clips_total)", lambda found: found == clips)
    stages = {("decode",), ("encode",)}
    # Ray forgets the figures of processes that have ended.
    seconds = "sum by (stage) (max_over_time(ray_svgan_stage_seconds_total[1h]))"
    wait_to_see(prometheus, seconds, lambda found: found.keys() == stages and min(found.values()) > 0)
    wait_to_see(
        prometheus, "sum(max_over_time(ray_svgan_s3_retries_total[1h]))", lambda found: found == {(): 3.0}
    )
    spool = "ray_svgan_spool_bytes"
    wait_to_see(prometheus, spool, lambda found: any(run.startswith("invert") for (run,) in found))

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
    wait_to_see(
        prometheus, speed, lambda found: found.keys() == {("train demo",)} and min(found.values()) > 0
    )
