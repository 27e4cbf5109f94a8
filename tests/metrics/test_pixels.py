"""Measures of pictures against closed forms, and what the networks are shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from svgan_ray.metrics.pixels import FVD_CLIPS, Networks, acd, fid, fvd, identity_rows, see, similarity


def test_fvd_and_fid_are_the_frechet_distance_of_the_features() -> None:
    """x against a x + b: |mean difference|^2 + (1 - a)^2 tr(S), for any sample."""
    real = torch.randn(300, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generated = 0.5 * real + 2
    expected = (real.mean(0) - generated.mean(0)).square().sum() + 0.25 * real.var(0).sum()

    row = fvd(FVD_CLIPS["16x8"], real, generated, "how")

    assert row.value == pytest.approx(float(expected), rel=1e-6)
    assert (row.compared, row.windows, row.features, row.verdict) == ("16 frames, stride 8", 300, 8, "")
    assert row.protocol == "how"
    assert fid(real, generated, "").value == row.value
    assert fid(real, real, "").value == pytest.approx(0, abs=1e-9)
    assert "singular" in fid(real[:8], generated[:8], "").verdict


def faces(*angles: float) -> Tensor:
    """One clip [1, T, 2] of unit vectors."""
    turns = torch.tensor(angles, dtype=torch.float64)
    return torch.stack([turns.cos(), turns.sin()], dim=-1)[None]


def test_identity_and_acd_have_closed_forms() -> None:
    still, turning = faces(0, 0, 0), faces(0, math.pi / 2, math.pi)

    assert acd(still).item() == pytest.approx(0, abs=1e-12)
    assert acd(turning).item() == pytest.approx((2 * math.sqrt(2) + 2) / 3)
    torch.testing.assert_close(similarity(turning, still)[0], torch.tensor([1, 0, -1], dtype=torch.float64))
    rows = {(row.measure, row.compared): row.value for row in identity_rows(still, turning, "how")}
    assert rows["identity", "footage, between frames of a clip"] == pytest.approx(1)
    assert rows["identity", "generated, between frames of a clip"] == pytest.approx(-1 / 3)
    assert rows["identity", "generated, to the subject"] == pytest.approx(0, abs=1e-12)
    assert rows["ACD", "generated"] == pytest.approx((2 * math.sqrt(2) + 2) / 3)


def test_networks_see_the_pixels_in_their_own_layout() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (6, 16, 8, 8, 3), np.uint8)
    shown: dict[str, list[Tensor]] = {"i3d": [], "inception": [], "arc_face": []}

    def network(name: str) -> object:
        def run(x: Tensor) -> Tensor:
            shown[name].append(x)
            return x.float().flatten(1).mean(1, keepdim=True)

        return run

    seen = see(iter(clips), Networks(*(network(name) for name in shown)))  # type: ignore[arg-type]

    videos = torch.cat(shown["i3d"])
    assert videos.shape == (6, 3, 16, 8, 8) and videos.dtype == torch.uint8
    np.testing.assert_array_equal(videos[4, :, 7].permute(1, 2, 0), clips[4, 7])
    pictures = torch.cat(shown["inception"])
    np.testing.assert_array_equal(pictures[4 * 16 + 7].permute(1, 2, 0), clips[4, 7])
    aligned = torch.cat(shown["arc_face"])
    assert float(aligned.min()) == -1 and float(aligned.max()) == 1
    assert seen.motion.shape == (6, 1) and seen.pictures.shape == (96, 1) and seen.faces.shape == (6, 16, 1)
    np.testing.assert_allclose(seen.motion[:, 0], clips.mean((1, 2, 3, 4)), rtol=1e-5)
    assert len(see(iter(clips), Networks()).motion) == 0
