"""The recurrence: torch's GRU in values, exact in first and second derivatives, on CPU and GPU alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from svgan_ray.temporal.gru import GRULayer, recurrence


def arguments(frames: int = 3, samples: int = 2, width: int = 4) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(frames)
    shapes = (frames, samples, 3 * width), (samples, width), (3 * width, width), (3 * width,)
    return tuple(torch.randn(s, generator=random, dtype=torch.float64).requires_grad_() for s in shapes)


def through_layer(inputs: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The layer, its input product being the identity."""
    layer = GRULayer(inputs.shape[-1], hidden.shape[-1]).double()
    layer.from_input = nn.Identity()  # type: ignore[assignment]
    parameters = {"from_hidden.weight": weight, "from_hidden.bias": bias}
    result: Tensor = torch.func.functional_call(layer, parameters, (inputs, hidden))
    return result


def test_equals_torch_gru() -> None:
    layer, reference = GRULayer(6, 8), nn.GRU(6, 8)
    with torch.no_grad():
        reference.weight_ih_l0.copy_(layer.from_input.weight)
        reference.bias_ih_l0.copy_(layer.from_input.bias)
        reference.weight_hh_l0.copy_(layer.from_hidden.weight)
        reference.bias_hh_l0.copy_(layer.from_hidden.bias)
    frames, hidden = torch.randn(10, 3, 6), torch.randn(3, 8)
    expected, last = reference(frames, hidden[None])
    torch.testing.assert_close(layer(frames, hidden), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer(frames, hidden)[-1], last[0], rtol=0, atol=1e-6)


def test_derivatives_of_both_orders_are_exact() -> None:
    assert torch.autograd.gradcheck(through_layer, arguments())
    assert torch.autograd.gradgradcheck(through_layer, arguments(frames=3, samples=2, width=3))


def test_hand_written_gradients_equal_the_plain_form() -> None:
    inputs = arguments(frames=20, samples=4, width=16)
    weights = torch.randn(20, 4, 16, dtype=torch.float64)
    by_hand = torch.autograd.grad((through_layer(*inputs) * weights).sum(), inputs)
    plain = torch.autograd.grad((recurrence(*inputs) * weights).sum(), inputs)
    for one, other in zip(by_hand, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_second_derivatives_on_a_gpu_equal_those_on_the_cpu() -> None:
    def second_derivative(device: str) -> Tensor:
        inputs, *others = (a.detach().to(device).requires_grad_() for a in arguments())
        (first,) = torch.autograd.grad(
            through_layer(inputs, *others).square().sum(), inputs, create_graph=True
        )
        (second,) = torch.autograd.grad(first.square().sum(), inputs)
        return second.cpu()

    torch.testing.assert_close(second_derivative("cuda"), second_derivative("cpu"), rtol=1e-9, atol=1e-10)
