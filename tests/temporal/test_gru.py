"""The recurrence: torch's GRU in values, exact in first and second derivatives, on CPU and GPU alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from svgan_ray.temporal.gru import GRULayer, GRUStack, PlainGRUStack

SIZES = [(1, 3, 3), (2, 3, 2), (3, 2, 3), (4, 1, 2)]  # layers, frames, width


def stack_of(layers: int, inputs: int, width: int) -> GRUStack:
    torch.manual_seed(layers)
    return GRUStack(inputs, width, layers).double()


def arguments(stack: GRUStack, frames: int, samples: int = 2) -> tuple[Tensor, ...]:
    """Inputs, first states and all weights, as leaves."""
    random = torch.Generator().manual_seed(frames)
    inputs, width = stack[0].from_input.in_features, stack[0].from_hidden.in_features
    shapes = (frames, samples, inputs), (len(stack), samples, width)
    values = [torch.randn(s, generator=random, dtype=torch.float64) for s in shapes]
    return tuple(x.detach().requires_grad_() for x in (*values, *stack.parameters()))


def through(stack: GRUStack, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    names = (name for name, _ in stack.named_parameters())
    outputs, last = torch.func.functional_call(
        stack, dict(zip(names, weights, strict=True)), (inputs, hidden)
    )
    return outputs, last


def plain_twin(stack: GRUStack) -> PlainGRUStack:
    first = stack[0].from_input.in_features, stack[0].from_hidden.in_features
    twin = PlainGRUStack(*first, len(stack)).double()
    twin.load_state_dict(stack.state_dict())
    return twin


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 10])
def test_equals_torch_gru(layers: int, frames: int) -> None:
    stack, reference = stack_of(layers, 6, 8), nn.GRU(6, 8, layers).double()
    with torch.no_grad():
        for i, layer in enumerate(stack):
            assert isinstance(layer, GRULayer)
            for kind, linear in (("ih", layer.from_input), ("hh", layer.from_hidden)):
                getattr(reference, f"weight_{kind}_l{i}").copy_(linear.weight)
                getattr(reference, f"bias_{kind}_l{i}").copy_(linear.bias)
    inputs, hidden, *_ = arguments(stack, frames, samples=3)
    for ours, theirs in zip(stack(inputs, hidden), reference(inputs, hidden), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_no_frames_leave_the_states_as_they_are() -> None:
    stack = stack_of(2, 3, 4)
    hidden = torch.randn(2, 5, 4, dtype=torch.float64)
    outputs, last = stack(torch.empty(0, 5, 3, dtype=torch.float64), hidden)
    assert outputs.shape == (0, 5, 4) and torch.equal(last, hidden)


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("frames", [0, 1, 10])
def test_equals_its_plain_twin(layers: int, frames: int) -> None:
    stack = stack_of(layers, 6, 8)
    inputs, hidden, *_ = arguments(stack, frames, samples=3)
    for ours, plain in zip(stack(inputs, hidden), plain_twin(stack)(inputs, hidden), strict=True):
        assert ours.shape == plain.shape
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("layers", "frames", "width"), SIZES)
def test_derivatives_of_both_orders_are_exact(layers: int, frames: int, width: int) -> None:
    """With respect to inputs, first states and every weight, each direction by itself."""
    stack = stack_of(layers, 2, width)
    given = arguments(stack, frames)
    assert torch.autograd.gradcheck(lambda *x: through(stack, *x), given)
    assert torch.autograd.gradgradcheck(lambda *x: through(stack, *x), given)


def test_hand_written_gradients_equal_the_plain_form() -> None:
    """Both orders at once, as the gradient angle penalty needs them, at the published size."""
    stack = stack_of(4, 32, 32)
    given = arguments(stack, frames=12, samples=3)
    found = []
    for form in (stack, plain_twin(stack)):
        outputs, last = through(form, *given)
        value = outputs.square().sum() + (last * outputs[0]).sum()
        (first,) = torch.autograd.grad(value, given[0], create_graph=True)
        found.append(torch.autograd.grad(first.square().sum() + value, given))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_second_derivatives_on_a_gpu_equal_those_on_the_cpu() -> None:
    stack = stack_of(3, 4, 8)

    def second_derivatives(device: str) -> list[Tensor]:
        given = [a.detach().to(device).requires_grad_() for a in arguments(stack, frames=6)]
        outputs, _ = through(stack.to(device), *given)
        (first,) = torch.autograd.grad(outputs.square().sum(), given[0], create_graph=True)
        return [x.cpu() for x in torch.autograd.grad(first.square().sum(), given)]

    for one, other in zip(second_derivatives("cuda"), second_derivatives("cpu"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
