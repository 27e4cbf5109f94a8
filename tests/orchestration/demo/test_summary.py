"""The figure that the demo ends with means something: truth gets a good one, spoilt motion a bad one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from svgan_ray.config import DemoConfig
from svgan_ray.demo.behaviour import behave, subject
from svgan_ray.demo.factors import MOVING, indices
from svgan_ray.metrics.controls import spoilt
from svgan_ray.metrics.evaluation import MotionReport, score_motion
from svgan_ray.metrics.rivals import GAUSSIAN
from svgan_ray.orchestration.demo.work import summary_of

RATE_HZ = 25.0
SAMPLES = 24


def moves(seed: int, seconds: float) -> Tensor:
    frames = round(seconds * RATE_HZ)
    return behave(subject(1), frames, RATE_HZ, seed)[:, indices(MOVING)]


def evaluated(footage: Tensor, motion: Tensor, thorough: bool = False) -> MotionReport:
    """As `evaluate` compares them, in the footage's own principal components."""
    variances, vectors = torch.linalg.eigh(torch.cov(footage.T))
    whitening = vectors / variances.sqrt()
    mean = footage.mean(0)
    clips = [(footage - mean) @ whitening]
    return score_motion(clips, (motion - mean) @ whitening, RATE_HZ, thorough=thorough)


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return torch.stack([moves(1000 + sample, 68) for sample in range(SAMPLES)])


def test_the_demos_footage_is_enough_for_the_measure(truth: Tensor) -> None:
    report = evaluated(moves(1, DemoConfig.seconds), truth, thorough=True)
    assert report.is_fit
    text = summary_of(report)
    assert "7 of 7 scores within their bars" in text and "not fit" not in text
    assert f"motion distance {report.standing.motion_distance:.1f} (a linear model " in text
    gaussian = report.rivals[GAUSSIAN]
    assert f"a Gaussian process {gaussian.motion_distance:.1f}; smaller is better)" in text
    assert gaussian.motion_distance > 1.5 * report.standing.motion_distance and len(gaussian.over) > 2


def test_a_minute_is_not_enough_and_that_is_said(truth: Tensor) -> None:
    report = evaluated(moves(1, 60), truth)
    assert not report.is_fit and "measure not fit for this footage" in summary_of(report)


@pytest.mark.parametrize("control", ["half amplitude", "components mirrored", "desynchronised"])
def test_spoilt_motion_fares_worse(truth: Tensor, control: str) -> None:
    footage = moves(1, DemoConfig.seconds)
    parts = torch.cat(spoilt(list(truth), control, RATE_HZ))
    length = truth.shape[1]
    motion = parts[: len(parts) // length * length].unflatten(0, (-1, length)).float()
    good, bad = evaluated(footage, truth), evaluated(footage, motion)
    assert bad.standing.motion_distance > good.standing.motion_distance
    assert "7 of 7" not in summary_of(bad)
