"""A stack of gated recurrent units whose first and second derivatives are both written by hand.

The gradient angle penalty needs second derivatives, which cuDNN's GRU does not have. A loop of differentiable
operations has them, but needs about twenty kernels per frame and layer for the first derivative and a hundred
for the second. The derivatives written here by hand need about ten kernels per pass, for all layers at once.
The layers run staggered: at instant k, layer l computes frame k - l. Its input, the output of the layer below
at that frame, was computed at the instant before. Before its first frame and after its last one, a layer
keeps its state. T frames therefore take K = T + L - 1 instants. Work that does not depend on the instant
before is done as one operation on all instants.

`PlainGRUStack` computes the same as a loop over layers and frames, with the same weights. `GRUStack` is used
for training and sampling; the plain one is easy to read, and tests and benchmarks compare the other with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["GRULayer", "GRUStack", "PlainGRUStack"]

HOLD = 1e4
"""Added to the input of a keep gate's sigmoid, it makes the gate exactly 1 and its slope exactly 0."""


class GRULayer(nn.Module):
    """The weights of a layer, in rows of the reset gate, the keep gate and the candidate."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(inputs, 3 * width)
        self.from_hidden = nn.Linear(width, 3 * width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """One frame of this layer alone: input [N, inputs] and state [N, width] to the state after it."""
        reset_in, keep_in, candidate_in = self.from_input(x).chunk(3, dim=-1)
        reset_h, keep_h, candidate_h = self.from_hidden(state).chunk(3, dim=-1)
        reset, keep = torch.sigmoid(reset_in + reset_h), torch.sigmoid(keep_in + keep_h)
        return (1 - keep) * torch.tanh(candidate_in + reset * candidate_h) + keep * state


class GRUStack(nn.ModuleList):
    """Inputs [T, N, inputs], states [L, N, width] to the top's outputs [T, N, width] and the states after."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__(GRULayer(width if layer else inputs, width) for layer in range(layers))

    def forward(self, frames: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        (lowest, *upper), width = cast(list[GRULayer], list(self)), hidden.shape[-1]
        weight, bias = _stacked(layer.from_hidden for layer in (lowest, *upper))
        # With a single layer there is no layer above that receives an input.
        below, below_bias = _stacked(layer.from_input for layer in upper) if upper else (weight[:0], bias[:0])
        states: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
            lowest.from_input(frames), hidden, weight.roll(width, 1), bias.roll(width, 1), below, below_bias
        )
        return states[-1, len(upper) : len(upper) + len(frames)], states[:, -1]


class PlainGRUStack(GRUStack):
    """`GRUStack` as plain equations (Cho et al., 2014, as in torch), with derivatives by autograd."""

    def forward(self, frames: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        states, outputs = list(hidden), []
        for x in frames:
            for number, layer in enumerate(self):
                x = states[number] = layer(x, states[number])
            outputs.append(x)
        return torch.stack(outputs) if outputs else hidden.new_empty(0, *hidden.shape[1:]), torch.stack(
            states
        )


def _stacked(linears: Iterable[nn.Linear]) -> tuple[Tensor, Tensor]:
    """The weights of layers of equal size as one tensor, and their biases as another."""
    weights, biases = zip(*((linear.weight, linear.bias) for linear in linears), strict=True)
    return torch.stack(weights), torch.stack(biases)


class _Recurrence(torch.autograd.Function):
    """The states after each instant, [L, K, N, W].

    The arguments are, in this order:

    - the products [T, N, 3W] of the inputs with the lowest layer's weights;
    - the first states [L, N, W];
    - `weight` [L, 3W, W] and `bias` [L, 3W], applied to the states; rows: candidate, reset gate, keep gate;
    - `below` [L - 1, 3W, W] and `below_bias` [L - 1, 3W], applied to the outputs of the layer below; rows:
      reset gate, keep gate, candidate.

    The functions below call the results "products", [L, K, N, 4, W]. Their order is: candidate from the
    state, reset gate, keep gate, candidate from the input. In this order the rows of `weight` are one slice,
    and so are those of `below`. The layer is the first dimension, and each layer is processed separately
    where that is possible, so that its tensors stay in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        states, candidates, gates = _run(inputs, hidden, *weights)
        ctx.local = None
        ctx.save_for_backward(inputs, hidden, *weights, states, candidates, gates)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        *arguments, states, candidates, gates = ctx.saved_tensors
        if ctx.local is None:  # the second derivative of a penalty calls this method again
            ctx.local = _linearise(arguments[1].detach(), states.detach(), candidates, gates)
        found: tuple[Tensor, ...] = _Gradients.apply(
            *gradients, *arguments, states, candidates, gates, *ctx.local
        )  # type: ignore[no-untyped-call]
        return found


class _Gradients(torch.autograd.Function):
    """The gradients of `_Recurrence` as functions of its states' gradient u, its arguments x and its states.

    For directions v of x, <v, gradients> = <u, J v>. So the gradient with respect to u is J v, the change of
    the states in direction v. J depends on the gates of every instant, and the gates depend on x and on the
    states before. The gradients that reach the states this way are added to the states' other gradients, so
    that one backward sweep handles both.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, inputs: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        _, weight, _, below, _, _, candidates, gates, *local_ = others
        local = _Local(*local_)
        by_state, by_product, by_hidden = _sweep(gradient, local, weight, below)
        ctx.set_materialize_grads(False)
        ctx.frames = len(inputs)
        ctx.save_for_backward(weight, below, candidates, gates, *local, by_state, by_product)
        (by_weight, by_below), (by_bias, by_below_bias) = (
            _outer(by_product, local.previous),
            _sums(by_product),
        )
        return _of_inputs(by_product, len(inputs)), by_hidden, by_weight, by_bias, by_below, by_below_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
        weight, below, candidates, gates, *local_, by_state, by_product = ctx.saved_tensors
        local = _Local(*local_)
        of_states, of_previous, of_products = _push(directions, local, weight, below)
        own_product = torch.empty_like(by_product)
        parts = by_state, by_product, of_previous, of_products, candidates, gates, own_product
        by_previous = torch.stack([_curvature(*layer) for layer in zip(*parts, strict=True)])
        _back(by_previous, own_product, weight, below)
        _back(by_previous, by_product, directions[2], directions[4])
        by_weight, by_below = (
            a + b
            for a, b in zip(_outer(own_product, local.previous), _outer(by_product, of_previous), strict=True)
        )
        by_bias, by_below_bias = _sums(own_product)
        by_states = torch.cat([by_previous[:, 1:], torch.zeros_like(by_previous[:, :1])], dim=1)
        by_arguments = by_weight, by_bias, by_below, by_below_bias, by_states, None, None, None, None, None
        return of_states, _of_inputs(own_product, ctx.frames), by_previous[:, 0], *by_arguments


class _Local(NamedTuple):
    """Derivatives of the states after each instant."""

    previous: Tensor  # [L, K, N, W], the states before
    keep: Tensor  # [L, K, N, W], with respect to the state before, while the products stay fixed
    slopes: Tensor  # [L, K, N, 4, W], with respect to the products


def _run(
    inputs: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor, below: Tensor, below_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """States and candidates [L, K, N, W], and (candidate from the state, reset, keep) [L, K, N, 3W]."""
    (frames, samples, _), (layers, _, width) = inputs.shape, hidden.shape
    instants = max(frames + layers - 1, 1)
    # The products of an instant are contiguous in memory, so that a matrix product can write into them.
    gates = bias[:, None].expand(instants, layers, samples, 3 * width).clone().transpose(0, 1)
    candidates = gates.new_zeros(layers, instants, samples, width)
    by_state, both = gates[..., :width], gates[..., width:]
    reset, keep = both.chunk(2, dim=-1)
    both[0, :frames] += inputs[..., : 2 * width]
    candidates[0, :frames] = inputs[..., 2 * width :]
    both[1:] += below_bias[:, None, None, : 2 * width]
    candidates[1:] = below_bias[:, None, None, 2 * width :]
    for layer in range(layers):
        keep[layer, :layer] += HOLD
        keep[layer, layer + frames :] += HOLD
    states = torch.empty_like(candidates)
    weight_t, below_t = weight.mT.contiguous(), below.mT.contiguous()
    given = gates.new_empty(layers - 1, samples, 3 * width)
    given_gates, given_candidates = given[..., : 2 * width], given[..., 2 * width :]
    parts = gates, both, by_state, reset, keep, candidates, states, both[1:], candidates[1:]
    for gate, two, own, r, z, candidate, state, two_above, candidate_above in _instants(*parts):
        gate.baddbmm_(hidden, weight_t)
        if layers > 1:
            torch.bmm(hidden[:-1], below_t, out=given)
            two_above.add_(given_gates)
            candidate_above.add_(given_candidates)
        two.sigmoid_()
        candidate.addcmul_(r, own).tanh_()
        hidden = torch.lerp(candidate, hidden, z, out=state)
    return states, candidates, gates


def _linearise(hidden: Tensor, states: Tensor, candidates: Tensor, gates: Tensor) -> _Local:
    previous = torch.cat([hidden[:, None], states[:, :-1]], dim=1)
    slopes = states.new_empty(*states.shape[:-1], 4, states.shape[-1])
    for before, candidate, gate, slope in zip(previous, candidates, gates, slopes, strict=True):
        own, reset, keep = gate.chunk(3, dim=-1)
        by_own, by_reset, by_keep, by_candidate = slope.unbind(-2)
        torch.mul(1 - keep, 1 - candidate.square(), out=by_candidate)
        torch.mul(by_candidate, reset, out=by_own)
        torch.mul(by_own * own, 1 - reset, out=by_reset)
        torch.mul((before - candidate) * keep, 1 - keep, out=by_keep)
    return _Local(previous, gates[..., 2 * states.shape[-1] :], slopes)


def _sweep(gradient: Tensor, local: _Local, weight: Tensor, below: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to states [L, K, N, W], products [L, K, N, 4, W] and the first states [L, N, W].

    `gradient` [L, K, N, W] is the gradient of each state from outside; the sweep adds that of later instants.
    """
    by_state, by_product = gradient.clone(), torch.empty_like(local.slopes)
    rows, rows_below = _rows(by_product)
    before = torch.zeros_like(gradient[:, 0])
    lower = before[:-1]
    parts = by_state, by_state[..., None, :], local.slopes, local.keep, by_product, rows, rows_below
    for here, column, slopes, keep, product, row, row_below in reversed(list(_instants(*parts))):
        here.add_(before)
        torch.mul(column, slopes, out=product)
        torch.mul(here, keep, out=before).baddbmm_(row, weight)
        if len(below):
            lower.baddbmm_(row_below, below)
    return by_state, by_product, before


def _push(
    directions: tuple[Tensor | None, ...], local: _Local, weight: Tensor, below: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of the states [L, K, N, W], of the states before them, and of the products [L, K, N, 4, W].

    They are caused by a change of inputs, first states, weights and biases in `directions`.
    """
    of_inputs, of_hidden, of_weight, of_bias, of_below, of_below_bias = directions
    of_products = torch.zeros_like(local.slopes)
    rows, rows_below = _rows(of_products)
    if of_inputs is not None:
        of_products[0, : len(of_inputs), :, 1:] = of_inputs.unflatten(-1, (3, -1))
    if of_bias is not None:
        rows += of_bias[:, None, None]
    if of_below_bias is not None:
        rows_below += of_below_bias[:, None, None]
    _forth(of_products, local.previous, of_weight, of_below)
    changes = torch.stack([(s * of).sum(-2) for s, of in zip(local.slopes, of_products, strict=True)])
    first = last = torch.zeros_like(changes[:, 0]) if of_hidden is None else of_hidden
    weight_t, below_t = weight.mT.contiguous(), below.mT.contiguous()
    product, given = (changes.new_empty(len(w), changes.shape[2], weight.shape[1]) for w in (weight, below))
    by_state, by_given = product.chunk(3, dim=-1), given.chunk(3, dim=-1)
    slopes = local.slopes.unbind(-2)
    parts = changes, local.keep, changes[1:], *slopes[:3], *(slope[1:] for slope in slopes[1:])
    for change, keep, change_above, *slope in _instants(*parts):
        torch.bmm(last, weight_t, out=product)
        change.addcmul_(keep, last)
        for by, of in zip(slope[:3], by_state, strict=True):
            change.addcmul_(by, of)
        if len(below):
            torch.bmm(last[:-1], below_t, out=given)
            for by, of in zip(slope[3:], by_given, strict=True):
                change_above.addcmul_(by, of)
        last = change
    of_previous = torch.cat([first[:, None], changes[:, :-1]], dim=1)
    _forth(of_products, of_previous, weight, below)
    return changes, of_previous, of_products


def _curvature(
    by_state: Tensor,
    by_product: Tensor,
    of_previous: Tensor,
    of_products: Tensor,
    candidate: Tensor,
    gates: Tensor,
    own_product: Tensor,
) -> Tensor:
    """The gradients of <by_state, the states' changes>, for one layer.

    The gradient with respect to the layer's products is written to `own_product` [K, N, 4, W]. The gradient
    with respect to the states before [K, N, W], while the products stay fixed, is returned.
    """
    own, reset, keep = gates.chunk(3, dim=-1)
    _, by_reset, by_keep, by_candidate = by_product.unbind(2)
    to_own, to_reset, to_keep, to_candidate = of_products.unbind(2)
    own_own, own_reset, own_keep, own_candidate = own_product.unbind(2)
    reset_slope = torch.addcmul(reset, reset, reset, value=-1)
    of_reset, kept = reset_slope * to_reset, keep * to_keep
    argument = torch.addcmul(to_candidate, of_reset, own).addcmul_(reset, to_own)

    torch.mul(torch.addcmul(kept, candidate, argument, value=2).neg_(), by_candidate, out=own_candidate)
    torch.addcmul(of_reset * by_candidate, reset, own_candidate, out=own_own)
    by_gate = torch.addcmul(to_own * by_candidate, own, own_candidate)
    torch.addcmul(_bent(to_reset * by_reset, reset), reset_slope, by_gate, out=own_reset)
    let_in = (1 - keep) * by_state
    through = torch.addcmul(let_in * of_previous, by_candidate, argument, value=-1)
    torch.addcmul(_bent(to_keep * by_keep, keep), keep, through, out=own_keep)
    return let_in * kept


def _bent(x: Tensor, gate: Tensor) -> Tensor:
    """x (1 - 2 gate), the factor by which the slope of a gate changes with the gate's argument."""
    return torch.addcmul(x, x, gate, value=-2)


def _instants(*parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """For each instant, the slice [L, ...] of each of the tensors [L, K, ...]."""
    return zip(*(part.unbind(1) for part in parts), strict=True)


def _forth(products: Tensor, states: Tensor, weight: Tensor | None, below: Tensor | None) -> None:
    """Add the states before [L, K, N, W] times the weights to the products [L, K, N, 4, W]."""
    rows, rows_below = (x.flatten(1, 2) for x in _rows(products))
    states = states.flatten(1, 2)
    for weights, of in ((weight, rows), (below, rows_below)):
        for own, state, row in zip(weights if weights is not None else (), states, of, strict=False):
            row += state @ own.T


def _back(by_states: Tensor, by_product: Tensor, weight: Tensor | None, below: Tensor | None) -> None:
    """The transpose of `_forth`: add the products' part to the states' gradients [L, K, N, W]."""
    rows, rows_below = (x.flatten(1, 2) for x in _rows(by_product))
    by_states = by_states.flatten(1, 2)
    for weights, by in ((weight, rows), (below, rows_below)):
        for own, by_state, row in zip(weights if weights is not None else (), by_states, by, strict=False):
            by_state.addmm_(row, own)


def _outer(by_product: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients with respect to the weights [L, 3W, W] and [L - 1, 3W, W]."""
    rows, rows_below = (x.flatten(1, 2) for x in _rows(by_product))
    states = previous.flatten(1, 2)
    return rows.mT @ states, rows_below.mT @ states[:-1]


def _sums(by_product: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients with respect to the biases [L, 3W] and [L - 1, 3W]."""
    sums = by_product.sum((1, 2))
    return sums[:, :3].flatten(1), sums[1:, 1:].flatten(1)


def _rows(products: Tensor) -> tuple[Tensor, Tensor]:
    """Split [L, K, N, 4, W] into the rows of the states, [L, K, N, 3W], and of the layers below,
    [L - 1, K, N, 3W].
    """
    return products[..., :3, :].flatten(3), products[1:, ..., 1:, :].flatten(3)


def _of_inputs(by_product: Tensor, frames: int) -> Tensor:
    """The part of [L, K, N, 4, W] that belongs to the products of the inputs, [T, N, 3W]."""
    return by_product[0, :frames, :, 1:].flatten(2)
