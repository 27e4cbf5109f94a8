"""The streaming basis against a dense decomposition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from svgan_ray.errors import DataError
from svgan_ray.latents.basis import LatentBasis, Moments, fit_basis, moments_of


def latents(frames: int, n: int, d: int, rank: int, mean: float = 0.0) -> Tensor:
    random = torch.Generator().manual_seed(frames + 31 * n + 7 * d)
    factors = torch.randn(frames, rank, generator=random) * torch.logspace(0, -1, rank)
    directions = torch.linalg.qr(torch.randn(n * d, rank, generator=random)).Q.T
    return mean + (factors @ directions).unflatten(1, (n, d))


@settings(deadline=None, max_examples=25)
@given(
    frames=st.integers(20, 80),
    n=st.integers(1, 6),
    d=st.integers(4, 12),
    batch=st.integers(1, 30),
    mean=st.sampled_from([0.0, 50.0]),
)
def test_equals_a_dense_svd_however_it_is_fed(frames: int, n: int, d: int, batch: int, mean: float) -> None:
    w_plus = latents(frames, n, d, rank=4, mean=mean)
    basis = fit_basis(w_plus.split(batch), 3)
    flat = w_plus.double().flatten(1)
    _, singular, rows = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    torch.testing.assert_close(basis.sigma.double(), singular[:3] / frames**0.5, rtol=1e-5, atol=1e-6)
    alignment = (basis.components.double() @ rows[:3].T).abs().diagonal()
    torch.testing.assert_close(alignment, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5)
    assert basis.explained == pytest.approx(
        float(singular[:3].square().sum() / singular.square().sum()), rel=1e-5
    )


@settings(deadline=None, max_examples=25)
@given(
    parts=st.lists(st.integers(0, 40), min_size=2, max_size=5).filter(lambda sizes: sum(sizes) > 20),
    mean=st.sampled_from([0.0, 50.0]),
)
def test_moments_of_parts_merge_into_those_of_all(parts: list[int], mean: float) -> None:
    w_plus = latents(sum(parts), 3, 8, rank=4, mean=mean)
    found = [moments_of(part.split(7)) for part in w_plus.split(parts) if len(part)]
    whole, *others = [moments for moments in found if moments is not None]
    for moments in others:
        whole.merge(moments)

    basis = whole.basis(3)

    flat = w_plus.double().flatten(1)
    _, singular, rows = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    torch.testing.assert_close(basis.sigma.double(), singular[:3] / len(flat) ** 0.5, rtol=1e-5, atol=1e-6)
    alignment = (basis.components.double() @ rows[:3].T).abs().diagonal()
    torch.testing.assert_close(alignment, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(basis.mean.flatten().double(), flat.mean(0), rtol=0, atol=1e-5)


def test_coefficients_are_white_and_reconstruct_what_the_rank_allows() -> None:
    w_plus = latents(500, 12, 16, rank=5, mean=2.0)
    basis = fit_basis(w_plus.split(64), 5)
    coefficients = basis.project(w_plus)
    assert coefficients.shape == (500, 5)
    torch.testing.assert_close(coefficients.T @ coefficients / 500, torch.eye(5), rtol=0, atol=1e-3)
    torch.testing.assert_close(basis.reconstruct(coefficients), w_plus, rtol=0, atol=1e-4)
    assert basis.explained == pytest.approx(1, abs=1e-6)


def test_batch_dimensions_are_free() -> None:
    basis = fit_basis([latents(50, 3, 4, rank=4)], 2)
    coefficients = torch.randn(2, 7, 2)
    w_plus = basis.reconstruct(coefficients)
    assert w_plus.shape == (2, 7, 3, 4)
    torch.testing.assert_close(basis.project(w_plus), coefficients, rtol=0, atol=1e-4)


def test_more_components_than_the_data_has_directions() -> None:
    with pytest.raises(DataError, match="vary in 4 directions"):
        fit_basis([latents(60, 3, 4, rank=4)], 5)
    with pytest.raises(DataError, match="at most 2"):
        fit_basis([torch.randn(3, 3, 4)], 5)
    with pytest.raises(DataError, match="at most 0"):
        fit_basis([torch.ones(30, 3, 4)], 1)


def test_latents_of_another_generator() -> None:
    basis = fit_basis([torch.randn(40, 3, 4)], 2)
    with pytest.raises(DataError, match="another generator"):
        basis.project(torch.randn(5, 4, 4))
    with pytest.raises(DataError, match="one generator"):
        fit_basis([torch.randn(9, 3, 4), torch.randn(9, 4, 4)], 2)
    with pytest.raises(DataError, match="one generator"):
        fit_moments(9, 3).merge(fit_moments(9, 4))
    with pytest.raises(DataError, match="empty"):
        fit_basis([], 2)


def fit_moments(frames: int, n: int) -> Moments:
    moments = moments_of([torch.randn(frames, n, 4)])
    assert moments is not None
    return moments


def test_state_round_trip() -> None:
    basis = fit_basis([torch.randn(40, 3, 4)], 6)
    again = LatentBasis.from_state(basis.state())
    assert again.explained == basis.explained
    assert all(torch.equal(a, again.state()[name]) for name, a in basis.state().items())
