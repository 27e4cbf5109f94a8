"""Panel, judge, rivals and controls, on a person of the demo world whose true motion is known."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from svgan_ray.demo.behaviour import CLOSED_LID, OPEN_LID, behave, subject
from svgan_ray.demo.factors import MOVING, indices
from svgan_ray.metrics.controls import CONTROLS, event_direction, spoilt
from svgan_ray.metrics.distance import Standing, Yardstick
from svgan_ray.metrics.judge import judge
from svgan_ray.metrics.panel import SCORES, Panel, footage_bars, truth_bars
from svgan_ray.metrics.rivals import RIVALS

RATE_HZ = 25.0
EASY = ("constant", "frozen frame", "half amplitude", "shuffled in time", "double speed")


def factors(seed: int, clips: int) -> Tensor:
    """What moves of the demo's first subject, clips of a minute one after another [clips * 1500, 13]."""
    parts = [behave(subject(1), 1500, RATE_HZ, seed + clip)[:, indices(MOVING)] for clip in range(clips)]
    return torch.cat(parts)


FACTORS = factors(0, 10)
VARIANCES, VECTORS = torch.linalg.eigh(torch.cov(FACTORS.T))
WHITENING = VECTORS / VARIANCES.sqrt()


def moves(seed: int, clips: int) -> list[Tensor]:
    """The same in whitened principal components, as models see it: clips [1500, 13]."""
    return list(((factors(seed, clips) - FACTORS.mean(0)) @ WHITENING).split(1500))


FOOTAGE = moves(0, 10)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def yardstick() -> Yardstick:
    return Yardstick(FOOTAGE, RATE_HZ)


@pytest.fixture(scope="module")
def standings(yardstick: Yardstick) -> dict[str, Standing]:
    """Of truth anew, rivals and controls, judged with noise of 0.1."""
    every = {f"truth {draw}": moves(5000 + 100 * draw, 12) for draw in range(2)}
    every |= {name: list(rival(FOOTAGE, 10, 1500, RATE_HZ, 0)) for name, rival in RIVALS.items()}
    every |= {name: spoilt(moves(6000, 10), name, RATE_HZ) for name in CONTROLS}
    return {name: yardstick.measure(motion, noises=(0.1,)) for name, motion in every.items()}


def test_truth_fails_no_score_and_the_judge_can_only_guess(standings: dict[str, Standing]) -> None:
    for draw in range(2):
        truth = standings[f"truth {draw}"]
        assert truth.over == [], truth.in_bars
        assert not truth.judgements[0].excludes_guessing
        assert truth.motion_distance < 1


@pytest.mark.parametrize("control", CONTROLS)
def test_every_control_fails_some_score_and_the_judge_sees_it(
    standings: dict[str, Standing], control: str
) -> None:
    spoiled = standings[control]
    assert spoiled.over != [], spoiled.in_bars
    assert spoiled.judgements[0].low > 0.6, spoiled.judgements
    assert spoiled.motion_distance > 2 * max(standings[f"truth {draw}"].motion_distance for draw in range(2))


def test_the_distance_orders_truth_rivals_and_easy_controls(standings: dict[str, Standing]) -> None:
    distance = {name: standing.motion_distance for name, standing in standings.items()}
    assert distance["truth 0"] < distance["VAR(20)"] < distance["Gaussian process"]
    assert all(distance[name] > distance["truth 0"] + 4 for name in EASY)
    assert standings["motion graph"].over == [], (
        "a replay moves like the person; memorisation is what catches it"
    )


def test_bars_from_footage_are_about_those_of_truth(standings: dict[str, Standing]) -> None:
    of_truth = truth_bars([standings[f"truth {draw}"].scores for draw in range(2)])
    of_footage = footage_bars(FOOTAGE, RATE_HZ)
    assert all(0.6 < of_footage[name] / of_truth[name] < 2.5 for name in SCORES)
    assert all(math.isnan(bar) for bar in footage_bars([FOOTAGE[0][:120]], RATE_HZ).values())


def test_everything_is_the_same_bits_again(yardstick: Yardstick) -> None:
    motion = moves(7000, 6)
    assert yardstick.measure(motion, 1.0, (0.3,)) == yardstick.measure(motion, 1.0, (0.3,))
    for rival in RIVALS.values():
        first, again, other = (rival(FOOTAGE[:3], 2, 300, RATE_HZ, seed) for seed in (4, 4, 5))
        assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (2, 300, 13)


def test_the_panel_is_cheap_enough_for_every_validation() -> None:
    motion, panel = moves(8000, 15), Panel(FOOTAGE, RATE_HZ)
    started_s = time.process_time()
    panel.scores(motion)
    assert time.process_time() - started_s < 1.0  # 0.1 on a core of its own


def test_events_are_found_where_the_person_blinks() -> None:
    direction = event_direction(FOOTAGE, RATE_HZ)
    lids = FACTORS[:, [MOVING.index("eyelid_left"), MOVING.index("eyelid_right")]].mean(1)
    found = torch.cat(FOOTAGE) @ direction
    fast = [course.diff(n=2) for course in (lids, found)]
    assert float(torch.corrcoef(torch.stack(fast))[0, 1]) < -0.9  # a blink is up in it


def test_blinks_come_out_half_and_twice_as_long_or_not_at_all() -> None:
    column = MOVING.index("eyelid_left")
    shut = {name: 0 for name in ("", "blinks half as long", "blinks twice as long", "blinks removed")}
    for name in shut:
        coefficients = torch.cat(spoilt(FOOTAGE, name, RATE_HZ) if name else FOOTAGE)
        lids = (coefficients @ torch.linalg.inv(WHITENING) + FACTORS.mean(0))[:, column]
        shut[name] = int((lids < (OPEN_LID + CLOSED_LID) / 2).sum())
    as_it_is = shut[""]
    assert 0.25 * as_it_is < shut["blinks half as long"] < 0.75 * as_it_is
    assert 1.4 * as_it_is < shut["blinks twice as long"] < 2.6 * as_it_is
    assert shut["blinks removed"] < 0.1 * as_it_is


def test_too_little_to_judge_is_nan_and_left_out(yardstick: Yardstick) -> None:
    (judgement,) = judge([FOOTAGE[0][:400]], moves(9000, 1), RATE_HZ, (0.1,))
    assert math.isnan(judgement.auc) and not judgement.excludes_guessing
    short = yardstick.measure([FOOTAGE[0][:400]])
    assert math.isfinite(short.motion_distance)
    assert yardstick.measure([FOOTAGE[0] * math.nan]).motion_distance == math.inf
