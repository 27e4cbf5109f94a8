"""Factors in the generator's latent spaces."""

from __future__ import annotations

import torch

from svgan_ray.demo.embedding import GENERATOR, factors_of_w, set_mapping, z_of_factors
from svgan_ray.demo.factors import draw_factors
from svgan_ray.stylegan.generator import Generator


def drawn(count: int) -> torch.Tensor:
    return draw_factors(count, torch.Generator().manual_seed(5))


def test_z_has_the_norm_that_the_mapping_gives_it_anyway() -> None:
    norms = z_of_factors(drawn(2000)).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, GENERATOR.z_dim**0.5))


def test_w_holds_the_factors_and_changes_nothing_else() -> None:
    generator = Generator(GENERATOR)
    set_mapping(generator)
    factors = drawn(500)
    w = generator.mapping(z_of_factors(factors))[:, 0]
    torch.testing.assert_close(
        factors_of_w(w), factors, atol=0.35, rtol=0
    )  # a rare unit leaves its linear range
    assert (factors_of_w(w) - factors).square().mean() < 1e-4
    spread = generator.mapping(z_of_factors(torch.zeros(1, factors.shape[1])))[:, 0]
    torch.testing.assert_close(spread[0], generator.mapping.w_avg)
