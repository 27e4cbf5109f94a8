"""Workers get the networks from the store: what the driver read them from may be gone once the job runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svgan_ray.config import InvertConfig, TrainConfig
from svgan_ray.orchestration.invert import job as invert_module
from svgan_ray.orchestration.runtime.weights import folders_of
from svgan_ray.orchestration.train import job as train_module
from svgan_ray.store import open_store
from svgan_ray.store.node_cache import cache_folder
from svgan_ray.stylegan.weights import weights_hash
from tests.footage import make_video, make_weights
from tests.motion import tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), pytest.mark.usefixtures("ray_of_two_cpus")]


def upload(folder: Path, endpoint: str) -> str:
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint)
    for path in folder.rglob("model.*"):
        client.upload_file(str(path), "motion", f"weights/{path.relative_to(folder)}")
    client.close()
    return "s3://motion/weights"


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_inversion_and_training_after_the_drivers_weights_are_gone(
    place: str, s3: dict[str, str], work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_weights(work_folder / "weights")
    weights = upload(folder, s3["AWS_ENDPOINT_URL"]) if place == "s3" else str(folder)
    hashes = {weights_hash(path) for path in folders_of(weights)}
    make_video(work_folder / "footage" / "anna.mp4", 150, seed=1)
    store = {"folder": str(work_folder / "store"), "s3": "s3://motion/inverted"}[place]

    def without_weights(action: Callable[..., Any]) -> Callable[..., Any]:
        """Removes them, and all copies on this machine, when the job's workers are about to start."""

        def act(*arguments: Any) -> Any:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(cache_folder("weights"))
            return action(*arguments)

        return act

    monkeypatch.setattr(invert_module, "stream", without_weights(invert_module.stream))
    config = InvertConfig((str(work_folder / "footage"),), store, weights, batch_frames=8, actors="2")
    report = invert_module.run(config)
    assert (report.clips_committed, report.failures) == (1, ())
    assert hashes == copies_here()

    make_weights(folder)
    monkeypatch.setattr(train_module, "_trainer", without_weights(train_module._trainer))
    trained = train_module.run(
        TrainConfig(
            store,
            weights=weights,
            temporal=tiny(20),
            checkpoint_every_steps=20,
            sample_every_steps=20,
            sample_seconds=1.0,
        )
    )
    assert trained.finished.steps == 20
    generator = trained.plan.job.generator_sha256
    assert generator in copies_here() <= hashes
    assert open_store(store).model_names("weights/") == sorted(f"weights/{sha256}" for sha256 in hashes)


def copies_here() -> set[str]:
    return {weights_hash(path) for path in cache_folder("weights").iterdir() if len(path.name) == 64}
