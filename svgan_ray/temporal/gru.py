"""A gated recurrent unit whose first and second derivatives are both written by hand.

cuDNN's GRU has no second derivative, which the gradient angle penalty needs. A loop of differentiable
operations has, at some twenty kernels a frame for the first derivative and a hundred for the second. By hand
each pass over the frames takes four, and everything that does not wait for the frame before is one operation
on all frames.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["GRULayer"]


class GRULayer(nn.Module):
    """Inputs [T, N, inputs] and a state [N, width] to outputs [T, N, width]; the last is the next state."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, 3 * width)
        self.from_hidden = nn.Linear(width, 3 * width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def forward(self, frames: Tensor, hidden: Tensor) -> Tensor:
        products, from_hidden = self.from_input(frames), self.from_hidden
        outputs: Tensor = _Recurrence.apply(products, hidden, from_hidden.weight, from_hidden.bias)  # type: ignore[no-untyped-call]
        return outputs


def recurrence(inputs: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The GRU plainly written: input products (reset, keep, candidate) [T, N, 3W] to outputs [T, N, W]."""
    outputs = []
    for frame in inputs.unbind():
        reset_in, keep_in, candidate_in = frame.chunk(3, dim=-1)
        reset_h, keep_h, candidate_h = torch.addmm(bias, hidden, weight.T).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_in + reset_h)
        keep = torch.sigmoid(keep_in + keep_h)
        candidate = torch.tanh(candidate_in + reset * candidate_h)
        hidden = torch.lerp(candidate, hidden, keep)
        outputs.append(hidden)
    return torch.stack(outputs)


class _Recurrence(torch.autograd.Function):
    """`recurrence`, its first derivative by hand."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        outputs, candidates, products = _run(inputs, hidden, weight, bias)
        ctx.save_for_backward(inputs, hidden, weight, bias, outputs, candidates, products)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = _Gradients.apply(*gradients, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found


class _Gradients(torch.autograd.Function):
    """The gradients of `recurrence` as functions of its outputs' gradient u, its arguments x and its outputs.

    With directions v of x, <v, gradients> = <u, J v>: so the gradient with respect to u is J v, the outputs'
    change in direction v. J is made of every frame's gates, and these of x and of the outputs before; what is
    passed on to the outputs joins there with what they get from elsewhere, so that one sweep serves both.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, inputs: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        hidden, weight, _, outputs, candidates, products = others
        local = _linearise(hidden, outputs, candidates, products)
        by_output, by_product, by_hidden = _sweep(gradient, local, weight)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, outputs, candidates, products, by_output, by_product)
        by_inputs = by_product.clone()
        torch.mul(by_output, local.candidate, out=by_inputs[..., -weight.shape[1] :])
        rows = by_product.flatten(0, 1)
        return by_inputs, by_hidden, rows.T @ local.previous.flatten(0, 1), rows.sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, outputs, candidates, products, by_output, by_product = ctx.saved_tensors
        local = _linearise(hidden, outputs, candidates, products)
        reset, keep, candidate_h = products.chunk(3, dim=-1)
        of_inputs, of_weight = directions[0], directions[2]
        if of_inputs is None:
            of_inputs = torch.zeros_like(products)
        changes, of_previous, of_products = _push(directions, local, weight)

        # Changes of the gates, of the candidate and of what they are functions of.
        to_reset, to_keep, to_candidate = (of_inputs.unflatten(-1, (3, -1)) + of_products).unbind(2)
        of_candidate_h = of_products[:, :, 2]
        reset_rate, keep_rate, candidate_rate = (
            reset * (1 - reset),
            keep * (1 - keep),
            1 - candidates.square(),
        )
        of_reset, of_keep = reset_rate * to_reset, keep_rate * to_keep
        argument = to_candidate + of_reset * candidate_h + (reset - 1) * of_candidate_h
        of_candidate = candidate_rate * argument

        # Gradients of <by_output, changes>, the outputs being held.
        by_argument = by_output * local.candidate
        lever = by_output * (local.previous - candidates)
        by_candidate = -by_output * (of_keep + 2 * candidates * argument * (1 - keep))
        own_candidate = candidate_rate * by_candidate
        own_keep = keep_rate * (by_output * (of_previous - of_candidate) + (1 - 2 * keep) * to_keep * lever)
        by_reset = of_candidate_h * by_argument + candidate_h * own_candidate
        own_reset = reset_rate * (by_reset + (1 - 2 * reset) * to_reset * candidate_h * by_argument)
        own_candidate_h = of_reset * by_argument + reset * own_candidate
        by_inputs = torch.cat([own_reset, own_keep, own_candidate], dim=-1)
        rows = torch.cat([own_reset, own_keep, own_candidate_h], dim=-1)  # [T, N, 3W]
        by_previous = by_output * of_keep + rows @ weight
        if of_weight is not None:
            by_previous = by_previous + by_product @ of_weight
        by_weight = rows.flatten(0, 1).T @ local.previous.flatten(0, 1)
        by_weight += by_product.flatten(0, 1).T @ of_previous.flatten(0, 1)
        by_outputs = torch.cat([by_previous[1:], torch.zeros_like(by_previous[:1])])
        by_hidden = by_previous[:1].sum(0)
        return changes, by_inputs, by_hidden, by_weight, rows.sum((0, 1)), by_outputs, None, None


class _Local(NamedTuple):
    """Slopes of a frame's output, for all frames."""

    previous: Tensor  # [T, N, W], the outputs before
    keep: Tensor  # [T, N, W], with respect to the output before, through the keep gate alone
    slopes: Tensor  # [T, N, 3, W], with respect to the products of the output before with the weight
    candidate: Tensor  # [T, N, W], with respect to the candidate's part of the inputs


def _run(inputs: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [T, N, W], candidates [T, N, W] and (reset, keep, candidate_h) [T, N, 3W]."""
    width = hidden.shape[-1]
    products = bias.expand_as(inputs).clone()
    products[..., : 2 * width] += inputs[..., : 2 * width]
    candidates = inputs[..., 2 * width :].clone()
    outputs = torch.empty_like(candidates)
    weight_t = weight.T
    gates = products[..., : 2 * width].unbind()
    parts = (part.unbind() for part in products.chunk(3, dim=-1))
    frames = zip(products.unbind(), gates, *parts, candidates.unbind(), outputs.unbind(), strict=True)
    for product, gate, reset, keep, candidate_h, candidate, output in frames:
        product.addmm_(hidden, weight_t)
        gate.sigmoid_()
        candidate.addcmul_(reset, candidate_h).tanh_()
        hidden = torch.lerp(candidate, hidden, keep, out=output)
    return outputs, candidates, products


def _linearise(hidden: Tensor, outputs: Tensor, candidates: Tensor, products: Tensor) -> _Local:
    reset, keep, candidate_h = products.chunk(3, dim=-1)
    previous = torch.cat([hidden[None], outputs])[: len(outputs)]
    candidate = (1 - keep) * (1 - candidates.square())
    of_keep = (previous - candidates) * keep * (1 - keep)
    of_reset = candidate * candidate_h * reset * (1 - reset)
    return _Local(previous, keep, torch.stack([of_reset, of_keep, candidate * reset], dim=2), candidate)


def _sweep(gradient: Tensor, local: _Local, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to outputs [T, N, W], products [T, N, 3W] and the first state [N, W].

    `gradient` [T, N, W] is what each output gets from elsewhere; later frames add to it.
    """
    by_output, by_product = gradient.clone(), torch.empty_like(local.slopes)
    rows = by_product.flatten(2)
    above = gradient.new_zeros(gradient.shape[1:])
    frames = zip(
        *(x.unbind() for x in (by_output, by_output[:, :, None], local.slopes, local.keep, by_product, rows)),
        strict=True,
    )
    for here, column, slopes, keep, product, row in reversed(list(frames)):
        here += above
        torch.mul(column, slopes, out=product)
        above = torch.addmm(here * keep, row, weight)
    return by_output, rows, above


def _push(
    directions: tuple[Tensor | None, ...], local: _Local, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of outputs [T, N, W], of the outputs before them, and of the products [T, N, 3, W], where
    inputs, hidden, weight and bias change in `directions`.
    """
    of_inputs, of_hidden, of_weight, of_bias = directions
    of_products = torch.zeros_like(local.slopes)
    if of_weight is not None:
        of_products += (local.previous @ of_weight.T).view_as(of_products)
    if of_bias is not None:
        of_products += of_bias.view(of_products.shape[2:])
    changes = (local.slopes * of_products).sum(2)
    by_reset, by_keep, by_candidate_h = local.slopes.unbind(2)
    if of_inputs is not None:
        reset_in, keep_in, candidate_in = of_inputs.chunk(3, dim=-1)
        changes.addcmul_(by_reset, reset_in).addcmul_(by_keep, keep_in)
        changes.addcmul_(local.candidate, candidate_in)
    first = last = changes.new_zeros(changes.shape[1:]) if of_hidden is None else of_hidden
    weight_t = weight.T
    product = weight.new_empty(len(first), len(weight))
    reset, keep, candidate_h = product.chunk(3, dim=-1)
    slopes = (x.unbind() for x in (local.keep, by_reset, by_keep, by_candidate_h))
    for change, through, of_reset, of_keep, of_candidate_h in zip(changes.unbind(), *slopes, strict=True):
        torch.mm(last, weight_t, out=product)
        change.addcmul_(through, last).addcmul_(of_reset, reset)
        last = change.addcmul_(of_keep, keep).addcmul_(of_candidate_h, candidate_h)
    of_previous = torch.cat([first[None], changes])[: len(changes)]
    of_products += (of_previous @ weight_t).view_as(of_products)
    return changes, of_previous, of_products
