"""Training without a cluster: its data, its plan, and the worker's loop in local mode."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ray.train import Checkpoint, ScalingConfig
from ray.train.torch import TorchTrainer

from svgan_ray.config import DataChoice, TrainConfig
from svgan_ray.errors import ConfigError, DataError, DivergenceError, StoreError
from svgan_ray.latents.denoising import denoised
from svgan_ray.metrics.evaluation import score_motion
from svgan_ray.orchestration.runtime.journal import RunKey
from svgan_ray.orchestration.runtime.snapshots import resolve_snapshot
from svgan_ray.orchestration.runtime.worker_groups import Uploader
from svgan_ray.orchestration.train.checkpoints import BEST, explosion_of, take_validated
from svgan_ray.orchestration.train.data import training_set
from svgan_ray.orchestration.train.export import publish
from svgan_ray.orchestration.train.job import plan as dry_run
from svgan_ray.orchestration.train.loop import Outcome, check_weights, train_worker
from svgan_ray.orchestration.train.plan import plan_training
from svgan_ray.orchestration.train.validation import (
    FRECHET,
    OBJECTIVE,
    WORST,
    Validator,
    distance_of,
    frechet_of,
)
from svgan_ray.stylegan.weights import weights_hash
from svgan_ray.temporal.checkpoints import load_checkpoint, save_checkpoint
from svgan_ray.temporal.model import model_of, save_model
from svgan_ray.temporal.recipes import OptimiserOptions
from svgan_ray.temporal.training import new_state, train_step
from svgan_ray.video.reading import open_video
from svgan_ray.video.writing import read_tags
from tests.footage import make_weights
from tests.full_disk import full_disk
from tests.motion import make_store, motion, put_clip, tiny


class Recorder:
    """Stands where a RemoteRun does and keeps what it is told."""

    def __init__(self) -> None:
        self.key = RunKey("tests", "train demo", "train", "train-demo")
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.models: list[str] = []
        self.checkpoints: list[tuple[str, int, str]] = []
        self.images: dict[str, npt.NDArray[np.uint8]] = {}
        self.files: dict[str, bytes] = {}

    def log_metrics(self, metrics: dict[str, float], step: int, model: str = "", *_: object) -> None:
        self.metrics.append((step, metrics))
        self.models.append(model)

    def log_checkpoint(self, name: str, step: int, address: str) -> None:
        self.checkpoints.append((name, step, address))

    def log_image(self, image: npt.NDArray[np.uint8], key: str, step: int) -> None:
        self.images[f"{key} {step}"] = image

    def log_file(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def settle(self) -> None: ...


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config_for(weights: Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{"weights": str(weights), "temporal": tiny(), **changes})


def test_the_training_set_is_every_frame_at_the_recipes_rate_and_kept_in_the_store(weights: Path) -> None:
    store = make_store("store", weights, clips=3, frames=200)
    config = tiny(frame_rate_hz=12.5)
    snapshot = resolve_snapshot(store, DataChoice(), weights_hash(weights / "generator"))

    data = training_set(store, snapshot, config)

    assert data.features.shape == (3 * 100, 16)
    assert data.segments == ((0, 100), (100, 200), (200, 300))
    assert len(data.index(50)) == 3 * 51
    w_plus = torch.cat([clip.w_plus[::2] for clip in store.snapshot_clips(snapshot)])
    torch.testing.assert_close(data.basis.project(w_plus), data.features, atol=1e-4, rtol=1e-4)
    kept = training_set(store, snapshot, config)
    assert torch.equal(kept.features, data.features) and torch.equal(kept.basis.sigma, data.basis.sigma)
    assert len(list(store.backend.list("bases/"))) == 1


def test_a_training_set_is_denoised_span_by_span_where_the_recipe_says_so(weights: Path) -> None:
    store = make_store("store", weights, clips=3, frames=200)
    snapshot = resolve_snapshot(store, DataChoice(), weights_hash(weights / "generator"))

    noisy, clean = (training_set(store, snapshot, tiny(denoise=denoise)) for denoise in (False, True))

    spans = [noisy.features[first:stop] for first, stop in noisy.segments]
    assert torch.equal(clean.features, torch.cat(denoised(spans, 25.0)))
    assert not torch.equal(clean.features, noisy.features)
    assert torch.equal(clean.basis.components, noisy.basis.components)
    with pytest.raises(ConfigError, match="denoise"):
        tiny(denoise=True, latent_space="w_plus")


def test_the_networks_of_the_published_head_see_the_style_vectors_themselves(weights: Path) -> None:
    store = make_store("store", weights, clips=2, frames=60)
    snapshot = resolve_snapshot(store, DataChoice(), weights_hash(weights / "generator"))

    data = training_set(store, snapshot, tiny(latent_space="w_plus"))

    w_plus = torch.cat([clip.w_plus for clip in store.snapshot_clips(snapshot)])
    assert torch.equal(data.features, w_plus.flatten(1))


def test_bad_input_is_refused_before_a_worker_starts(weights: Path, tmp_path: Path) -> None:
    store = make_store("store", weights, clips=1, frames=200)
    snapshot = resolve_snapshot(store, DataChoice(), weights_hash(weights / "generator"))
    with pytest.raises(DataError, match="window of 201 frames: the longest valid span has 200"):
        training_set(store, snapshot, tiny()).index(201)
    with pytest.raises(DataError, match=r"basis of 100 components .* vary in \d\d directions"):
        training_set(store, snapshot, tiny(basis_size=100))
    with pytest.raises(ConfigError, match="--workers 5: expected at most 4, the size of a batch"):
        plan_training(config_for(weights, workers=5))
    other = make_weights(tmp_path / "other")
    (other / "generator" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match="made with another generator"):
        plan_training(config_for(other))
    put_clip(store, "somebody else", motion(40, 5), weights_hash(weights / "generator"))
    with pytest.raises(DataError, match="choose with --subject: somebody else, subject-1"):
        plan_training(config_for(weights))


def test_a_plan_says_what_would_be_done_and_stores_nothing(weights: Path) -> None:
    store = make_store("store", weights)

    plan = dry_run(config_for(weights, minutes=5.0))

    assert store.snapshot_names() == []
    assert plan.job.snapshot.generation == 0
    assert plan.job.budget_s == 300
    shown = "\n".join(str(cell) for column in plan.__rich__().columns for cell in column.cells)
    assert "2 clips, 1,000 frames, 40 s" in shown and "40 steps or 5 minutes" in shown


def test_the_identity_is_of_data_and_options_and_not_of_how_long(weights: Path) -> None:
    make_store("store", weights)
    first = plan_training(config_for(weights))

    longer = plan_training(config_for(weights, temporal=tiny(steps=90), minutes=1.0, model="models/other"))
    other = plan_training(config_for(weights, temporal=tiny(seed=1)))

    assert longer.job.id == first.job.id != other.job.id


def local_training(weights: Path, **changes: Any) -> tuple[Outcome, Recorder]:
    plan, recorder = plan_training(config_for(weights, **changes)), Recorder()
    trainer = TorchTrainer(
        lambda: train_worker(plan.job, recorder),  # type: ignore[arg-type, return-value]
        scaling_config=ScalingConfig(num_workers=0),
    )
    # Without Ray's uploader, nobody removes the folders in which checkpoints are handed over.
    with patch.object(tempfile, "tempdir", str(Path.cwd())):
        outcome: Outcome = trainer.fit().return_value  # type: ignore[attr-defined]
    return outcome, recorder


def test_a_worker_trains_to_the_last_step_and_tells_its_losses(weights: Path) -> None:
    make_store("store", weights)

    outcome, recorder = local_training(weights)

    assert (outcome.steps, outcome.diverged) == (40, "")
    assert [step for step, _ in recorder.metrics] == [1, 21, 40]
    assert {"train/critic", "train/generator", "train/gradient_penalty"} <= recorder.metrics[0][1].keys()


def test_minutes_end_a_training_early(weights: Path) -> None:
    make_store("store", weights)

    outcome, _ = local_training(weights, temporal=tiny(steps=100_000), minutes=0.02)

    assert 20 <= outcome.steps < 10_000 and outcome.steps % 20 == 0
    assert outcome.elapsed_s >= 1.2


def test_a_training_that_diverges_ends_with_a_word(weights: Path) -> None:
    make_store("store", weights)
    explosive = tiny(steps=60, optimiser=OptimiserOptions(1e38, 1e38))

    outcome, _ = local_training(weights, temporal=explosive)

    assert "diverged" in outcome.diverged and outcome.steps < 60


def test_a_gradient_whose_square_overflows_is_a_divergence(weights: Path) -> None:
    """Adam would keep that weight where it is for ever, and every loss finite."""
    make_store("store", weights)
    plan = plan_training(config_for(weights))
    data = training_set(plan.store, plan.job.snapshot, plan.job.config)
    state = new_state(plan.job.config, data.basis)
    train_step(state, data.features, data.index(plan.job.config.window_frames))
    check_weights(state)
    (weight, *_) = state.critic.parameters()
    assert weight.grad is not None
    weight.grad.fill_(1e30)

    state.critic_optimiser.step()

    assert all(bool(parameter.isfinite().all()) for parameter in state.critic.parameters())
    with pytest.raises(DivergenceError, match="a gradient of the critic was not finite, or its square"):
        check_weights(state)


@pytest.mark.parametrize("frames", [600, 30])
def test_validation_shows_samples_beside_real_footage_and_measures_where_it_can(
    weights: Path, frames: int
) -> None:
    make_store("store", weights, frames=frames)
    plan, recorder = plan_training(config_for(weights, sample_seconds=1.0)), Recorder()
    data = training_set(plan.store, plan.job.snapshot, plan.job.config)
    save_checkpoint(new_state(plan.job.config, data.basis), "checkpoint")

    figures = Validator(plan.job, recorder)(Checkpoint.from_directory("checkpoint"))  # type: ignore[arg-type]

    assert recorder.images["samples 0"].shape[0] == 4 * 32 + 3 * 2
    Path("samples.mp4").write_bytes(recorder.files["samples/step-00000000.mp4"])
    with open_video("samples.mp4") as video:
        assert (video.info.frame_count, video.info.width, video.info.height) == (25, 4 * 32, 32)
    assert "generated by svgan-ray" in read_tags("samples.mp4")["comment"]
    if frames == 600:
        assert figures["diversity"] > 0 and np.isfinite(list(figures.values())).all()
        assert recorder.metrics == [(0, figures)]
    else:  # no window of two seconds fits into a clip
        assert figures == {} and recorder.metrics == [] and recorder.checkpoints == []


def test_the_best_checkpoint_is_kept_and_an_explosion_ends_the_training(weights: Path) -> None:
    make_store("store", weights)
    plan, recorder = plan_training(config_for(weights)), Recorder()
    data = training_set(plan.store, plan.job.snapshot, plan.job.config)
    state = new_state(plan.job.config, data.basis)
    validator = Validator(plan.job, recorder)  # type: ignore[arg-type]
    for step, distance in ((10, 50.0), (20, 7.0), (30, 90.0), (40, WORST)):
        state.step = step
        save_checkpoint(state, "checkpoint")
        validator._log(Path("checkpoint"), step, {OBJECTIVE: distance, FRECHET: min(WORST, 2 * distance)})
    assert recorder.models == ["train demo step 10", "train demo step 20", "", ""]
    place = f"{plan.folder}/{BEST}"
    assert recorder.checkpoints == [("train demo step 10", 10, place), ("train demo step 20", 20, place)]
    assert load_checkpoint(Path(plan.folder) / BEST).step == 20
    assert explosion_of(plan.folder) == ""

    take_validated(plan.folder, Path("checkpoint"), 50, 8.0, 1401.0, WORST)
    outcome, _ = local_training(weights, checkpoint_every_steps=5)

    assert outcome.steps == 5
    assert "1,401 floors at step 50, 14 at step 20: training diverged" in outcome.diverged
    assert f"step 20 is {plan.folder}/{BEST}" in outcome.diverged


def test_an_upload_is_tried_again(tmp_path: Path) -> None:
    source, place = tmp_path / "checkpoint", tmp_path / "runs"
    source.mkdir()
    (source / "a.json").write_text("{}")
    place.write_text("in the way")
    threading.Timer(1.0, place.unlink).start()

    kept = Uploader(str(place), waits_s=(0.2,) * 50)(Checkpoint.from_directory(source), "step-1")

    assert (place / "step-1" / "a.json").read_text() == "{}"
    assert kept.path == str(place / "step-1")
    place = tmp_path / "blocked"
    place.write_text("in the way")
    with pytest.raises(StoreError, match="blocked: checkpoint step-1 cannot be written"):
        Uploader(str(place), waits_s=(0.01,))(Checkpoint.from_directory(source), "step-1")


def test_a_disk_without_space_is_said_at_once(weights: Path, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    (source / "a.safetensors").write_bytes(bytes(10_000))
    with full_disk(), pytest.raises(StoreError, match=r"step-1 cannot be written: .*free space"):
        Uploader(str(tmp_path / "runs"), waits_s=(600.0,))(Checkpoint.from_directory(source), "step-1")

    make_store("store", weights)
    plan = plan_training(config_for(weights))
    data = training_set(plan.store, plan.job.snapshot, plan.job.config)
    model = model_of(
        new_state(plan.job.config, data.basis), data.basis.mean.clone(), plan.job.generator_sha256
    )
    save_model(model, "trained")
    with full_disk(), pytest.raises(ConfigError, match="--model models/a: cannot be written"):
        publish(Path("trained"), "models/a")
    assert not Path("models/a").exists()
    assert [path.name for path in Path("models").iterdir()] == []


def test_the_scalar_orders_motion(weights: Path) -> None:
    """Motion like the footage's below half as much below none at all, all finite."""
    make_store("store", weights, clips=4, frames=1500)
    plan = plan_training(config_for(weights))
    data = training_set(plan.store, plan.job.snapshot, plan.job.config)
    real = [data.coefficients[first:stop] for first, stop in data.segments]
    generated = torch.stack([data.basis.project(motion(1700, 100 + n)) for n in range(40)])

    reports = [score_motion(real, share * generated, 25.0) for share in (1.0, 0.5, 0.0)]

    for scores in ([frechet_of(report) for report in reports], [distance_of(report) for report in reports]):
        assert scores[0] < scores[1] < scores[2] < WORST
