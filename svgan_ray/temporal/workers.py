"""Several workers that each take a slice of one global batch and agree on its statistics and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ALONE", "AllReduce", "GlobalBatchNorm", "Workers", "join"]

AllReduce = Callable[[Tensor], Tensor]  # sum of a tensor over all workers, as a new tensor


@dataclass(frozen=True)
class Workers:
    """This worker's place among `world` workers."""

    rank: int = 0
    world: int = 1
    all_reduce: AllReduce | None = None

    def slice(self, batch: int) -> slice:
        """This worker's part of a global batch of `batch` samples."""
        return slice(self.rank * batch // self.world, (self.rank + 1) * batch // self.world)

    def sum(self, value: Tensor) -> Tensor:
        """Sum of `value` over the workers, differentiable any number of times."""
        if self.all_reduce is None:
            return value
        result: Tensor = _AllReduceSum.apply(value, self.all_reduce)  # type: ignore[no-untyped-call]
        return result

    def count(self, samples: int) -> int:
        """Sum of a number of samples over the workers."""
        return samples if self.all_reduce is None else int(self.sum(torch.tensor(samples)))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over the workers, in one message."""
        if self.all_reduce is None:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        summed = self.all_reduce(torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Workers()


class _AllReduceSum(torch.autograd.Function):
    """y = sum of x over the workers; it is its own adjoint and can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, all_reduce: AllReduce) -> Tensor:
        ctx.all_reduce = all_reduce
        return all_reduce(value.detach().contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed: Tensor = _AllReduceSum.apply(gradients[0], ctx.all_reduce)  # type: ignore[no-untyped-call]
        return summed, None


class GlobalBatchNorm(nn.Module):
    """Batch normalisation of [..., C] over all other dimensions and over the batches of all workers.

    torch's SyncBatchNorm refuses CPU tensors and has no second derivative.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.workers = ALONE
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if self.workers.all_reduce is None or not self.training:
            y = functional.batch_norm(
                x.flatten(0, -2),
                self.mean,
                self.variance,
                self.weight,
                self.bias,
                self.training,
                self.momentum,
                self.eps,
            )
            return y.view_as(x)
        mean, variance = self._batch_statistics(x)
        y = (x - mean) * torch.rsqrt(variance + self.eps)
        return y if self.weight is None or self.bias is None else y * self.weight + self.bias

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.flatten(0, -2)  # [M, C]
        count = self.workers.count(rows.shape[0])
        mean = self.workers.sum(rows.sum(0)) / count
        variance = self.workers.sum((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * count / max(count - 1, 1), self.momentum)
        return mean, variance


def join(module: nn.Module, workers: Workers) -> None:
    """Let every batch normalisation inside `module` use the statistics of all `workers`."""
    for part in module.modules():
        if isinstance(part, GlobalBatchNorm):
            part.workers = workers
