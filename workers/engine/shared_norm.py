"""Batch norm over the batch of all processes that train together, of which each has a share.

The statistics are those of the whole batch, and so are their gradients: the step is that of a single process, on CPUs
and GPUs alike. PyTorch's `SyncBatchNorm` does the same for GPUs only, and takes the place of a layer, so that a
subclass would lose its own `forward` (timm's batch norm with an activation would lose the activation). Here a layer
keeps its `forward`, and the call of `batch_norm` within it is replaced.

Inputs have the shape (n, channels, ...). Sums are in float64, all else in the inputs' type, float32 at least.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

Sum = Callable[[Tensor], Tensor]
"""A tensor of this process -> its sum over all processes, each of which must call it."""


def share_batch_norms(network: nn.Module, total: Sum, is_shared: Callable[[], bool]) -> None:
    """Have the batch norm layers of a network normalise over all processes in training steps.

    Args:
        is_shared: returns whether the processes have different parts of the batch now. Where each has the whole, it
            normalises by itself, as a single process does: the variance that evaluation uses depends on the batch's
            size.
    """
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            forward = partial(_normalised, layer, layer.forward, _SharedNorm(total), is_shared)
            layer.forward = forward  # type: ignore[method-assign]


def _normalised(
    layer: _BatchNorm,
    forward: Callable[..., Tensor],
    shared: TorchFunctionMode,
    is_shared: Callable[[], bool],
    *inputs: Any,
    **named: Any,
) -> Tensor:
    # In evaluation mode one process works alone, also where a layer without running statistics takes the batch's.
    if not (layer.training and is_shared()):
        return forward(*inputs, **named)
    with shared:
        return forward(*inputs, **named)


class _SharedNorm(TorchFunctionMode):
    """Replaces `batch_norm` where it takes the batch's own statistics."""

    def __init__(self, total: Sum) -> None:
        super().__init__()
        self._total = total

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return self._batch_norm(func, *args, **kwargs)
        if func is torch.batch_norm:  # what a layer in an own `forward` may call directly
            x, weight, bias, mean, variance, of_batch, momentum, eps, _ = args
            return self._batch_norm(functional.batch_norm, x, mean, variance, weight, bias, of_batch, momentum, eps)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        plain: Callable[..., Tensor],
        x: Tensor,
        running_mean: Tensor | None,
        running_variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return plain(x, running_mean, running_variance, weight, bias, training, momentum, eps)
        mean, variance, n = self._statistics(x.detach())
        if running_mean is not None and running_variance is not None:
            running_mean.mul_(1 - momentum).add_(momentum * mean)
            running_variance.mul_(1 - momentum).add_(momentum * variance * n / (n - 1))
        normed: Tensor = _Normed.apply(x, mean, (variance + eps).rsqrt(), n, self._total)
        if weight is not None:
            normed = normed * _over(weight, x)
        return normed if bias is None else normed + _over(bias, x)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return each channel's mean and biased variance over all processes, and the number of values."""
        dimensions, wide = _others(x), _wide(x)
        n = wide.new_tensor([x.numel() / x.shape[1]], dtype=torch.float64)
        mean = wide.mean(dimensions, dtype=torch.float64)
        deviations = (wide - _over(mean, wide)).square().sum(dimensions, dtype=torch.float64)
        sums = self._total(torch.cat([n * mean, deviations + n * mean.square(), n]))
        (mean, square), n = (sums[:-1] / sums[-1]).chunk(2), sums[-1]
        return mean, (square - mean.square()).clamp(min=0), n


class _Normed(Function):
    """(x - mean) / deviation, with the gradient that reaches x through the statistics (Ioffe and Szegedy 2015,
    arXiv 1502.03167, section 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, inverse: Tensor, n: Tensor, total: Sum) -> Tensor:
        wide = _wide(x)
        ctx.save_for_backward(x, mean, inverse, n)
        ctx.total = total
        return ((wide - _over(mean, wide)) * _over(inverse, wide)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, n = ctx.saved_tensors
        wide, slope, dimensions = _wide(x), _wide(gradient), _others(x)
        normed = (wide - _over(mean, wide)) * _over(inverse, wide)
        here = [slope.sum(dimensions, dtype=torch.float64), (slope * normed).sum(dimensions, dtype=torch.float64)]
        of_mean, of_deviation = (ctx.total(torch.cat(here)) / n).chunk(2)
        inner = slope - _over(of_mean, wide) - normed * _over(of_deviation, wide)
        return (inner * _over(inverse, wide)).to(x.dtype), None, None, None, None


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _others(x: Tensor) -> list[int]:
    """Return all dimensions but the channels'."""
    return [d for d in range(x.dim()) if d != 1]


def _over(values: Tensor, x: Tensor) -> Tensor:
    """Return a value for each channel in the type of x and in a shape that broadcasts to it."""
    return values.to(x.dtype).reshape(1, -1, *[1] * (x.dim() - 2))
