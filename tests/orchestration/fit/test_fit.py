"""A fit without Ray: the same numbers however many workers share it and wherever it was cut off."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan_ray.config import FitConfig
from svgan_ray.errors import ConfigError, DataError, InputError, WeightsError
from svgan_ray.orchestration.fit.data import Shard, rows_of
from svgan_ray.orchestration.fit.footage import schedules_of
from svgan_ray.orchestration.fit.job import plan as dry_run
from svgan_ray.orchestration.fit.job import run
from svgan_ray.orchestration.fit.loop import PersonalFit, places_of
from svgan_ray.orchestration.fit.plan import FitPlan, plan_fit
from svgan_ray.orchestration.runtime.held import held_alone
from svgan_ray.store import LatentStore, open_store
from svgan_ray.stylegan.fitting import Fitter, load_checkpoint, save_checkpoint
from svgan_ray.stylegan.weights import load_encoder, load_generator
from svgan_ray.temporal.workers import ALONE, Workers
from tests.footage import make_video
from tests.meeting import Meeting, together
from tests.orchestration.invert.plain import track_only

STEPS = 20


def config_for(store: LatentStore, weights: Path, **changes: object) -> FitConfig:
    config = FitConfig(store=store.uri, weights=str(weights), subject="anna,ben", batch=4, steps=STEPS)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def new_fit(
    plan: FitPlan, workers: Workers = ALONE, dtype: torch.dtype = torch.float32, portions: int = 1
) -> PersonalFit:
    """What a worker of the job has, its shards read here."""
    generator, encoder = load_generator(plan.folders[0]), load_encoder(plan.folders[1])
    fitter = Fitter(generator.to(dtype), encoder.to(dtype), plan.fitting(STEPS), "cpu", workers)
    schedules = schedules_of(plan.footage, plan.config.batch, portions, 0)
    places = places_of(workers, plan.config.batch)

    pieces = plan.footage.pieces(schedules[0], places), plan.footage.held_out_pieces(schedules[1], places)
    training, held_out = ([rows_of(piece, plan.side, plan.store) for piece in part] for part in pieces)
    fit = PersonalFit(
        fitter,
        Shard(lambda: training, schedules[0], places),
        Shard(lambda: held_out, schedules[1], places),
        schedules[0],
        plan.footage.training,
        np.zeros(sum(plan.footage.training), np.bool_),
    )
    fit.held_out.load(0)
    return fit


def losses_of(fit: PersonalFit, steps: int) -> list[float]:
    return [fit.train_step()["reconstruction"] for _ in range(steps)]


def test_one_worker_and_two_agree_in_float64(tracked: LatentStore, weights: Path) -> None:
    plan = plan_fit(config_for(tracked, weights))
    alone = new_fit(plan, dtype=torch.float64)
    expected, scores, pairs = losses_of(alone, STEPS), alone.score(), alone.pairs(4)
    assert expected[-1] < expected[0]
    meeting = Meeting(2)
    fits = [new_fit(plan, Workers(rank, 2, meeting.all_reduce_of(rank)), torch.float64) for rank in range(2)]
    found: dict[int, tuple[object, ...]] = {}

    def work(rank: int) -> None:
        fit = fits[rank]
        assert len(fit.training.places) == 2
        found[rank] = losses_of(fit, STEPS), fit.score().to_dict(), fit.pairs(4), fit.left_out

    together(meeting, work)
    for losses, theirs, shown, left_out in found.values():
        assert losses == pytest.approx(expected, abs=1e-5)
        assert theirs == pytest.approx(scores.to_dict(), abs=1e-5)
        assert np.abs(np.asarray(shown, int) - pairs).max() <= 1
        assert np.array_equal(left_out, alone.left_out)  # type: ignore[arg-type]


@pytest.mark.parametrize("portions", [1, 3])
def test_a_fit_that_was_cut_off_has_the_same_bits(
    tracked: LatentStore, weights: Path, tmp_path: Path, portions: int
) -> None:
    plan = plan_fit(config_for(tracked, weights))
    straight = new_fit(plan, portions=portions)
    expected = losses_of(straight, STEPS)
    cut = new_fit(plan, portions=portions)
    losses = losses_of(cut, 12)
    save_checkpoint(cut.fitter, tmp_path / "fit", {"left_out": np.flatnonzero(cut.left_out).tolist()})
    resumed = new_fit(plan, portions=portions)
    resumed.left_out[load_checkpoint(resumed.fitter, tmp_path / "fit")["left_out"]] = True
    assert losses + losses_of(resumed, STEPS - 12) == expected


def test_frames_of_one_video_are_decoded_as_they_were_tracked(tracked: LatentStore, weights: Path) -> None:
    plan = plan_fit(config_for(tracked, weights, subject="ben"))
    schedules = schedules_of(plan.footage, plan.config.batch, 1, 0)
    pieces = plan.footage.pieces(schedules[0], range(4))
    rows = [rows_of(piece, plan.side, plan.store) for piece in pieces]
    numbers = np.concatenate([row["number"] for row in rows])
    assert sorted(numbers.tolist()) == list(range(sum(plan.footage.training)))
    first = plan.footage.place(0)
    assert first.frame == 0 and first.uri.endswith("ben.mp4")
    boxes = np.concatenate([row["boxes"] for row in rows])  # [M, eyes and mouth, top bottom left right]
    assert (boxes[:, 0, 1] <= boxes[:, 1, 1]).all() and (boxes[:, :, 0] < boxes[:, :, 1]).all()
    assert not np.allclose(boxes, boxes[0]), "landmarks move in the crops"


def test_a_dry_run_tells_the_time(tracked: LatentStore, weights: Path) -> None:
    plan = dry_run(config_for(tracked, weights))
    assert "minutes here (20 steps of" in plan.estimate
    assert plan.footage.subjects == ("anna", "ben")


def test_bad_input_is_refused_before_anything_starts(
    tracked: LatentStore, weights: Path, tmp_path: Path
) -> None:
    config = config_for(tracked, weights)
    with pytest.raises(DataError, match="holds no track of zoe; it shows anna, ben"):
        plan_fit(dataclasses.replace(config, subject="anna,zoe"))
    with pytest.raises(DataError, match="shows anna, ben; choose with --subject"):
        plan_fit(dataclasses.replace(config, subject=None))
    with pytest.raises(ConfigError, match="--batch 1: expected a place for each of 2 subjects"):
        plan_fit(dataclasses.replace(config, batch=1))
    with pytest.raises(ConfigError, match="--tracking nowhere"):
        plan_fit(dataclasses.replace(config, tracking="nowhere"))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "generator").symlink_to(weights / "generator")
    with pytest.raises(WeightsError, match="holds no encoder, and a fit reads footage with one"):
        plan_fit(dataclasses.replace(config, weights=str(tmp_path / "half")))
    with pytest.raises(DataError, match=r"holds no clips yet; jobs/invert\.py"):
        plan_fit(dataclasses.replace(config, what="generator"))
    with pytest.raises(ConfigError, match="workers"):
        dataclasses.replace(config, workers=5)
    with pytest.raises(ConfigError, match="--out"):
        plan_fit(dataclasses.replace(config, out=str(weights)))


def test_too_little_footage_and_footage_that_is_gone_are_refused(tmp_path: Path, weights: Path) -> None:
    video = make_video(tmp_path / "footage" / "anna.mp4", 150)
    store = open_store(tmp_path / "store", create=True)
    track_only(video.parent, weights, store)
    config = config_for(store, weights, subject="anna")
    with pytest.raises(DataError, match=r"subject 'anna': 1\d\d usable frames, expected 200 or more"):
        plan_fit(config)
    video.unlink()
    with pytest.raises(InputError, match="the footage is not there any more"):
        plan_fit(config)


def test_the_same_fit_a_second_time_says_so_before_anything_starts(
    tracked: LatentStore, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_for(tracked, weights, out=str(tmp_path / "weights"))
    plan = plan_fit(config)
    words = rf"fit {plan.name} is at work already: process {os.getpid()} on "
    with held_alone(plan.folder, "it"), pytest.raises(ConfigError, match=words):
        run(config)
