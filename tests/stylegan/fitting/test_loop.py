"""A whole fit: killed and resumed, with crops that do not belong, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from svgan_ray.errors import ConfigError, WeightsError
from svgan_ray.stylegan.fitting import (
    CONSENT,
    Batch,
    Fitter,
    FittingConfig,
    Footage,
    HeldOutScores,
    Provenance,
    ScoreSums,
    fit,
    fixed_regions,
    load_checkpoint,
    save_checkpoint,
    save_fitted,
    score,
)
from svgan_ray.stylegan.fitting.config import What
from svgan_ray.stylegan.weights import (
    kind_of,
    load_encoder,
    load_generator,
    rendered_hashes,
    save_weights,
    weights_hash,
)

from .conftest import drawn_crops, networks

CONFIG = FittingConfig(steps=24, batch=4, warmup_steps=4, adversarial_weight=0.1)


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    files = ("fitting.safetensors", "best.safetensors")
    return {f"{file}/{name}": t for file in files for name, t in load_file(folder / file).items()}


KILLED = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from fitting.conftest import drawn_footage, networks
from fitting.test_loop import CONFIG
from svgan_ray.stylegan.fitting import Fitter, fit

def die(step, *_):
    if step == 15:
        os.kill(os.getpid(), signal.SIGKILL)

fit(Fitter(*networks(), CONFIG), drawn_footage(), Path(sys.argv[2]), 6, die)
"""


def test_killed_and_resumed_to_the_same_bits(tmp_path: Path, footage: Footage) -> None:
    """A process killed between two checkpoints, another that goes on, and one that was left alone."""
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    threads = torch.get_num_threads()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    tests = str(Path(__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-c", KILLED, tests, str(killed)], env=environment, capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    seen: list[int] = []
    fit(Fitter(*networks(), CONFIG), footage, killed, 6, lambda step, *_: seen.append(step))
    assert seen == list(range(13, 25))
    fit(Fitter(*networks(), CONFIG), footage, alone, 6)
    theirs, ours = tensors_in(killed), tensors_in(alone)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_best_state_is_the_one_that_is_left(tmp_path: Path, footage: Footage) -> None:
    """With steps so large that the end is worse than the middle, the middle is what is returned."""
    config = dataclasses.replace(CONFIG, steps=12, warmup_steps=1, synthesis_rate=0.15, adversarial_weight=0)
    history: dict[int, float] = {}

    def report(step: int, _: object, scores: HeldOutScores | None) -> None:
        if scores is not None:
            history[step] = scores.mean_db

    fitter = Fitter(*networks(), config)
    scores, _ = fit(fitter, footage, tmp_path, 1, report)
    assert fitter.best_db == max(history.values()) > min(history.values())
    every_fourth = torch.nonzero(footage.held_out).flatten()[::4]
    assert score(fitter, footage, every_fourth).mean_db == pytest.approx(fitter.best_db)
    assert scores.frames == int(footage.held_out.sum())


def test_crops_that_stand_out_are_left_out(tmp_path: Path, footage: Footage) -> None:
    """A hand before the face: a run of frames that are something else altogether."""
    crops = footage.crops.clone()
    hand = slice(20, 28)
    crops[hand, 8:] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    covered = dataclasses.replace(footage, crops=crops)
    _, left_out = fit(Fitter(*networks(), CONFIG), covered, tmp_path, 12)
    assert set(range(20, 28)) <= set(left_out.tolist())
    assert len(left_out) < 0.2 * int(footage.training.sum())
    assert not set(left_out.tolist()) & set(torch.nonzero(~footage.training).flatten().tolist())
    assert not set(range(20, 28)) & set(torch.cat(footage.groups(left_out)).tolist())
    again = Fitter(*networks(), CONFIG)
    assert load_checkpoint(again, tmp_path / "fitting.safetensors")["left_out"] == left_out.tolist()


def test_a_checkpoint_is_of_its_settings_and_networks(tmp_path: Path) -> None:
    fitter = Fitter(*networks(), CONFIG)
    save_checkpoint(fitter, tmp_path / "state", {"seen": [1, 2]})
    assert load_checkpoint(Fitter(*networks(), CONFIG), tmp_path / "state") == {"seen": [1, 2]}
    other = dataclasses.replace(CONFIG, eye_weight=9)
    with pytest.raises(ConfigError, match=r"other settings \(eye_weight: 4.0 there, 9 here\)"):
        load_checkpoint(Fitter(*networks(), other), tmp_path / "state")
    (tmp_path / "cut").write_bytes((tmp_path / "state").read_bytes()[:500])
    with pytest.raises(WeightsError, match="no whole checkpoint"):
        load_checkpoint(Fitter(*networks(), CONFIG), tmp_path / "cut")


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A pair of weights folders."""
    for network in networks():
        save_weights(network, tmp_path / "parent" / kind_of(type(network)), {"program": "a test"})
    return tmp_path / "parent"


def fitted(parent: Path, out: Path, what: What) -> Path:
    config = FittingConfig(what, steps=1, batch=2)
    pair = load_generator(parent / "generator"), load_encoder(parent / "encoder")
    fitter, crops = Fitter(*pair, config), drawn_crops(2)
    with torch.no_grad():
        w_plus = pair[1].encode(fitter.images(crops))
    fitter.train_step(Batch(crops, fixed_regions(2), w_plus))
    sums = ScoreSums()
    sums.add(*fitter.reconstruct(Batch(crops, fixed_regions(2), w_plus)), fixed_regions(2))
    provenance = Provenance(parent / "generator", parent / "encoder", ("anna", "ben"), "0123abcd")
    return save_fitted(fitter, out, provenance, sums.total())


def test_weights_remember_where_they_come_from(parent: Path, tmp_path: Path) -> None:
    out = fitted(parent, tmp_path / "out", "both")
    for kind in ("generator", "encoder"):
        source = json.loads((out / kind / "model.json").read_text())["source"]
        assert source["parent"][kind] == weights_hash(parent / kind) != weights_hash(out / kind)
        assert source["subjects"] == ["anna", "ben"] and source["snapshot"] == "0123abcd"
        assert (source["steps"], source["images"]) == (1, 2)
        assert source["held_out"].keys() >= {"image_db", "eyes_db", "mouth_db", "energy_1", "coherence_2"}
        assert source["consent"] == CONSENT
    assert CONSENT in (out / "card.md").read_text()
    load_encoder(out / "encoder")
    assert rendered_hashes(out / "generator") == (weights_hash(out / "generator"),)


def test_a_tuned_generator_knows_its_ancestors(parent: Path, tmp_path: Path) -> None:
    once = fitted(parent, tmp_path / "once", "generator")
    twice = fitted(once, tmp_path / "twice", "generator")
    folders = [folder / "generator" for folder in (twice, once, parent)]
    assert rendered_hashes(folders[0]) == tuple(weights_hash(folder) for folder in folders)
    assert rendered_hashes(folders[2]) == (weights_hash(folders[2]),)  # as any folder without the field
    assert weights_hash(twice / "encoder") == weights_hash(parent / "encoder")
