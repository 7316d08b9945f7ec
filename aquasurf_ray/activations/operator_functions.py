"""The functions of the built-in operators that PyTorch lacks or defines differently (see `operators.py`), and those of
kernels that need more than positional arguments (see `named_functions.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def _constant(value: float) -> Callable[[Tensor], Tensor]:
    def constant(x: Tensor) -> Tensor:
        # A filled copy instead of a new tensor: it stays in the autograd graph, so gradients are zero, not missing.
        # Cloned first, because masked_fill would lose the memory format.
        return x.clone().masked_fill_(torch.ones((), dtype=torch.bool, device=x.device), value)

    return constant


def identity(x: Tensor) -> Tensor:
    return x


def _in_float32(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def widened(x: Tensor) -> Tensor:
        # Some versions and devices have no half precision kernel for the Bessel functions.
        return function(x.float()).to(x.dtype) if x.dtype in (torch.float16, torch.bfloat16) else function(x)

    return widened


def softplus(x: Tensor) -> Tensor:
    # PyTorch switches to the identity above 20, which is exact in float32 only; above 40 it is exact in float64 too.
    return functional.softplus(x, threshold=40.0)


def log_sigmoid(x: Tensor) -> Tensor:
    # PyTorch's function loses the memory format of its input, so channels_last tensors get channels moved last.
    moved = x.movedim(1, -1) if x.dim() > 2 and not x.is_contiguous() else x
    if moved is not x and moved.is_contiguous():
        return functional.logsigmoid(moved).movedim(-1, 1)
    return functional.logsigmoid(x)


def hard_sigmoid(x: Tensor) -> Tensor:
    # Keras's line through (0, 1/2) has slope 1/5, PyTorch's has slope 1/6.
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


def elish(x: Tensor) -> Tensor:
    # x sigmoid(x) above zero, (exp(x) - 1) sigmoid(x) below (Basirat and Roth 2018, arXiv 1808.00783).
    return functional.elu(x) * torch.sigmoid(x)


def leakyrelu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.01)


def gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def sinc(x: Tensor) -> Tensor:
    # Without pi, as activation functions have it; PyTorch's is sin(pi x) / (pi x), and is 1 at 0 with gradient 0.
    return torch.sinc(x / math.pi)


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return the function of two or more arguments that applies a binary one from left to right."""

    def fold(first: Tensor, *others: Tensor) -> Tensor:
        # From left to right, because floating-point sums depend on the order and a function's identity must not.
        result = first
        for other in others:
            result = function(result, other)
        return result

    return fold


zero = _constant(0.0)
one = _constant(1.0)
bessel_i0e = _in_float32(torch.special.i0e)
bessel_i1e = _in_float32(torch.special.i1e)
