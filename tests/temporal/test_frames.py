"""Layers of every frame: as convolutions they compute what the linear layers say."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from svgan_ray.temporal import frames as frames_module
from svgan_ray.temporal.frames import FrameLayers, frame_product

frames_as_image = frames_module._image


@pytest.fixture
def layers() -> FrameLayers:
    torch.manual_seed(0)
    activation = [nn.LeakyReLU(0.01, inplace=True) for _ in range(2)]
    return FrameLayers(nn.Linear(8, 32), activation[0], nn.Linear(32, 16), activation[1], nn.Linear(16, 5))


def frames(samples: int = 20, length: int = 15) -> Tensor:
    return torch.randn(samples, length, 8, generator=torch.Generator().manual_seed(1))


def relative_difference(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs().max() / other.abs().max()).detach())


def is_convolved(run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    seen: list[Tensor] = []
    with monkeypatch.context() as patch:
        patch.setattr(frames_module, "_image", lambda frames: seen.append(frames) or frames_as_image(frames))
        run()
    return bool(seen)


@pytest.mark.parametrize("shape", [(20, 15), (1, 256), (256, 1), (3, 7), (1, 1)])
def test_outputs_and_gradients_are_those_of_the_linear_layers(
    layers: FrameLayers, shape: tuple[int, int]
) -> None:
    exact = copy.deepcopy(layers).double()
    x = frames(*shape).requires_grad_()
    found = [layers(x), *torch.autograd.grad(layers(x).square().sum(), [x, *layers.parameters()])]
    twin = x.detach().double().requires_grad_()
    expected = [exact(twin), *torch.autograd.grad(exact(twin).square().sum(), [twin, *exact.parameters()])]
    assert found[0].shape == (*shape, 5)
    for one, other in zip(found, expected, strict=True):
        assert relative_difference(one.double(), other) < 1e-5


def test_frames_may_lie_in_any_order_in_memory(layers: FrameLayers) -> None:
    x = frames()
    assert torch.equal(layers(x.transpose(0, 1).contiguous().transpose(0, 1)), layers(x))
    assert FrameLayers()(x) is x
    assert layers(x[:0]).shape == (0, 15, 5) and layers(x[:, :0]).shape == (20, 0, 5)


@torch.no_grad()
def test_each_layers_output_is_what_the_next_one_leaves(layers: FrameLayers) -> None:
    x = frames()
    outputs = layers.outputs(x)
    assert [output.shape[-1] for output in outputs] == [32, 32, 16, 16, 5]
    assert torch.equal(outputs[0], outputs[1]) and float(outputs[1].min()) > -0.1
    assert torch.equal(outputs[-1], layers(x))


def test_a_product_has_first_and_second_derivatives(layers: FrameLayers) -> None:
    x, weight = frames().requires_grad_(), torch.randn(8, 5, requires_grad=True)
    found = []
    for cast in (Tensor.float, Tensor.double):
        a, b = cast(x.detach()).requires_grad_(), cast(weight.detach()).requires_grad_()
        product = frame_product(a, b)
        (slope,) = torch.autograd.grad(product.square().sum(), a, create_graph=True)
        found.append([product, slope, *torch.autograd.grad(slope.square().sum(), [a, b])])
    for one, other in zip(*found, strict=True):
        assert relative_difference(one.double(), other) < 1e-5


def test_only_many_frames_in_single_precision_on_a_cpu_are_convolved(
    layers: FrameLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = frames()
    assert is_convolved(lambda: layers(x), monkeypatch)
    assert not is_convolved(lambda: layers(x[:2]), monkeypatch)
    assert not is_convolved(lambda: layers.double()(x.double()), monkeypatch)
    assert not is_convolved(lambda: layers.to("meta")(x.to("meta")), monkeypatch)
    monkeypatch.setattr(frames_module, "LARGEST_WEIGHT", 10)
    assert not is_convolved(lambda: frame_product(x, torch.randn(8, 5)), monkeypatch)
