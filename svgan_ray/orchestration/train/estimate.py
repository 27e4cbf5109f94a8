"""Estimates the time of a training from a few steps on noise."""

from __future__ import annotations

import dataclasses
import time

import torch

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.latents.windows import WindowIndex
from svgan_ray.temporal.recipes import TemporalConfig
from svgan_ray.temporal.state import feature_count
from svgan_ray.temporal.training import new_state, train_step

__all__ = ["step_time_s"]

_STEPS = 4


def step_time_s(config: TemporalConfig, num_ws: int, w_dim: int) -> float:
    """Mean time of a step on this machine's CPU; lazy penalties count at their rate or at a quarter."""
    loss = dataclasses.replace(
        config.loss,
        critic_penalty_interval=min(config.loss.critic_penalty_interval, _STEPS),
        angle_penalty_interval=min(config.loss.angle_penalty_interval, _STEPS),
    )
    components = torch.zeros(config.basis_size, num_ws * w_dim)
    basis = LatentBasis(torch.zeros(num_ws, w_dim), components, torch.ones(config.basis_size), 1.0)
    state = new_state(dataclasses.replace(config, loss=loss), basis)
    frames = 2 * config.window_frames
    features = torch.randn(frames, feature_count(config, num_ws, w_dim))
    index = WindowIndex([(0, frames)], config.window_frames)
    train_step(state, features, index)
    began_s = time.perf_counter()
    for _ in range(_STEPS):
        train_step(state, features, index)
    return (time.perf_counter() - began_s) / _STEPS
