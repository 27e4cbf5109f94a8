"""The trained model as an object: where it lies, and what it shares."""

from __future__ import annotations

import torch

from svgan_ray.latents.basis import LatentBasis
from svgan_ray.temporal.model import model_of
from svgan_ray.temporal.training import new_state

from .conftest import MODERN


def test_a_model_on_another_device_leaves_the_first_where_it_is(basis: LatentBasis) -> None:
    model = model_of(new_state(MODERN, basis), basis.mean, "sha")
    before = {name: tensor.clone() for name, tensor in model.generator.state_dict().items()}
    moved = model.to("meta")
    assert {tensor.device.type for tensor in moved.generator.state_dict().values()} == {"meta"}
    assert moved.w_ref.device.type == moved.basis.mean.device.type == "meta"
    after = model.generator.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_model_on_the_same_device_has_a_network_of_its_own(basis: LatentBasis) -> None:
    model = model_of(new_state(MODERN, basis), basis.mean, "sha")
    other = model.to("cpu")
    noise = torch.randn(1, 8, MODERN.generator.noise_dim)
    expected, _ = model.generator(noise)
    assert torch.equal(other.generator(noise)[0], expected)
    other.generator.amplify(2.0)
    assert torch.equal(model.generator(noise)[0], expected)
