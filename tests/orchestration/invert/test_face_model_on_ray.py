"""A FaceLandmarker `.task` file of the user's, on a machine that never had it: `make test-face` runs this."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from svgan_ray.config import InvertConfig
from svgan_ray.orchestration.invert import job as invert_module
from svgan_ray.store import open_store
from svgan_ray.store.weights import FACE_MODEL
from svgan_ray.video.landmarks import landmark_source
from svgan_ray.video.people import find_people
from svgan_ray.video.reading import open_video
from svgan_ray.video.tracking import track
from svgan_ray.video.writing import write_video
from tests.footage import make_weights
from tests.video.faces import make_task, needs_mediapipe, scene

pytestmark = [
    pytest.mark.cluster,
    needs_mediapipe,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:google"),
]


@pytest.fixture
def other_machine() -> Iterator[Path]:
    """The TMPDIR of the one machine of a cluster that works; this process is on its head."""
    cluster = Cluster()
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        try:
            cluster.add_node(num_cpus=0, object_store_memory=100_000_000)
            cluster.add_node(num_cpus=2, object_store_memory=100_000_000, env_vars={"TMPDIR": folder})
            ray.init(address=cluster.address, logging_level="WARNING")
            yield Path(folder)
        finally:
            ray.shutdown()
            cluster.shutdown()


def test_a_machine_gets_the_face_model_from_the_store_and_checks_it(
    other_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    task, video = make_task(tmp_path / "mine.task"), tmp_path / "a.mp4"
    content = task.read_bytes()
    write_video(video, np.stack([scene([(200 + 2 * k, 20, 400)]) for k in range(40)]), 25)
    with open_video(video) as frames:
        points = landmark_source("mediapipe", task).detect(frames)
        [expected] = track(find_people(points, frames.time_s).chosen("longest")[0], frames.time_s).clips
    weights = make_weights(tmp_path / "weights")
    config = InvertConfig(
        (str(video),), "store", str(weights), faces="mediapipe", face_model="mine.task", actors="1"
    )
    stream = invert_module.stream

    def without_the_file(*arguments: Any) -> Any:
        """When the work begins it is gone from here, and what the machine fetched at the start is damaged."""
        task.unlink()
        [copy] = other_machine.rglob(FACE_MODEL)
        assert copy.read_bytes() == content
        copy.write_bytes(content[:-1] + b"?")
        return stream(*arguments)

    monkeypatch.setattr(invert_module, "stream", without_the_file)
    report = invert_module.run(config)

    assert (report.clips_committed, report.failures) == (1, ())
    [copy] = other_machine.rglob(FACE_MODEL)
    assert copy.read_bytes() == content, "fetched again"
    store = open_store(tmp_path / "store")
    [commit] = store.commits(report.inversion_id)
    quad = store.read_clip(report.inversion_id, commit.clip_id).quad
    torch.testing.assert_close(quad, torch.from_numpy(expected.quad).to(quad), rtol=0, atol=1e-4)
