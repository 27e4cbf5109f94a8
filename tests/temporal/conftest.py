"""A small training set and configurations small enough for unit tests."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from svgan_ray.latents.basis import LatentBasis, fit_basis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.recipes import (
    CriticOptions,
    GeneratorOptions,
    LossOptions,
    TemporalConfig,
)
from svgan_ray.temporal.training import TrainingState, represent

SMALL = TemporalConfig(
    basis_size=4,
    window_frames=8,
    batch_size=6,
    generator=GeneratorOptions(noise_dim=5, layers=2, width=5, initial_widths=(7,), output_widths=(9,)),
    critic=CriticOptions(frame_widths=(8, 6), time_widths=(7,)),
)
MODERN = dataclasses.replace(
    SMALL,
    generator=dataclasses.replace(
        SMALL.generator, width=6, normalise=False, slowest_noise_frames=10.0, warm_up_frames=5
    ),
    critic=dataclasses.replace(SMALL.critic, lags=(1, 4), orders=(2, 3), pooled=True),
    loss=LossOptions(
        "relativistic", critic_penalty_interval=2, angle_penalty_weight=0.0, moment_matching_weight=1.0
    ),
)
STYLES = dataclasses.replace(SMALL, latent_space="w_plus")
CONFIGS = {"published": SMALL, "modern": MODERN, "w_plus": STYLES}


def weights(state: TrainingState) -> dict[str, Tensor]:
    """All that a state's networks and statistics hold, by owner and name."""
    return {f"{owner}.{k}": v for owner, m in state.modules().items() for k, v in m.state_dict().items()}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> TemporalConfig:
    return CONFIGS[request.param]


@pytest.fixture(scope="session")
def w_plus() -> Tensor:
    """Smooth latents [120, 3, 4] of two clips of 60 frames."""
    random = torch.Generator().manual_seed(0)
    waves = torch.randn(6, generator=random) * torch.arange(120.0)[:, None] / 5
    mixing = torch.randn(6, 12, generator=random)
    return (torch.sin(waves) @ mixing + 0.1 * torch.randn(120, 12, generator=random)).unflatten(1, (3, 4))


@pytest.fixture(scope="session")
def basis(w_plus: Tensor) -> LatentBasis:
    return fit_basis([w_plus], 4)


@pytest.fixture
def features(config: TemporalConfig, basis: LatentBasis, w_plus: Tensor) -> Tensor:
    return represent(config, basis, w_plus)


@pytest.fixture
def index(config: TemporalConfig) -> WindowIndex:
    return WindowIndex([(0, 60), (60, 120)], config.window_frames)
