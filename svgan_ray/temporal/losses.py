"""The losses of StyleVideoGAN (Fox et al., 2021) and their alternatives, one value per sample [N]."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "gradient_angle_penalty",
    "one_centred_penalty",
    "relativistic_loss",
    "wasserstein_critic_loss",
    "wasserstein_generator_loss",
    "zero_centred_penalty",
]

EPS = 1e-12


def wasserstein_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """D(fake) - D(real) (Arjovsky et al., 2017)."""
    return fake_scores - real_scores


def wasserstein_generator_loss(fake_scores: Tensor) -> Tensor:
    """-D(fake)."""
    return -fake_scores


def relativistic_loss(winner_scores: Tensor, loser_scores: Tensor) -> Tensor:
    """softplus(-(D(winner) - D(loser))) (Jolicoeur-Martineau, 2019).

    The winner is the real window in the critic's loss, and the generated window in the generator's loss.
    """
    return functional.softplus(loser_scores - winner_scores)


def one_centred_penalty(slopes: Tensor) -> Tensor:
    """(||grad D(x)||_2 - 1)^2 of slopes grad D(x) [N, T, F] between real and fake (Gulrajani et al., 2017).

    The norm is taken over all dimensions except the batch.
    """
    return (_norm(slopes) - 1).square()


def zero_centred_penalty(slopes: Tensor) -> Tensor:
    """1/2 ||grad D(x)||_2^2 (Mescheder et al., 2018)."""
    return 0.5 * slopes.square().flatten(1).sum(1)


def gradient_angle_penalty(noise: Tensor, change: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """min(0, phi - pi/4)^2 with phi = arctan(||dd/ds_1..|| / ||dd/ds_0||), d = ||(Delta - mean) / std||_2.

    It is positive where the first noise vector s_0 influences the whole change Delta = l_(T-1) - l_0 [N,
    width] more than all later noise does. `change` must have been computed from `noise` [N, T, noise_dim].
    """
    distance = _norm((change - mean) / std)
    (gradient,) = torch.autograd.grad(distance.sum(), noise, create_graph=True)
    phi = torch.atan2(_norm(gradient[:, 1:]), _norm(gradient[:, :1]))
    return (phi - math.pi / 4).clamp(max=0).square()


def _norm(x: Tensor) -> Tensor:
    """||x||_2 per sample [N]; the epsilon keeps the derivative finite at zero."""
    return (x.square().flatten(1).sum(1) + EPS).sqrt()
