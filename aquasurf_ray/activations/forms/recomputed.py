"""An activation that keeps only its input for the backward pass, and recomputes the rest there.

Eager PyTorch keeps the tensors that every operator of a composed function needs: mul(sigmoid(x),elu(x)) keeps three
tensors as large as its input, and a network of fifty such layers fifty times as many. Here the backward pass runs the
same operators again, so values and gradients are the same bit for bit. Only the gradient of a learned number may differ
in its last bits, because it is a sum over pieces.

On a CPU, the whole function is applied to a large tensor piece by piece, each of a size that fits a core's cache, so
that intermediate values never reach main memory: with one thread, this is 1.3 to 3 times as fast as eager from four
million elements on; below a few hundred thousand, the second computation makes it slower. Pieces end where a vector
register ends, and where PyTorch's own share of a thread does, because the odd elements at an end are computed by other
code, which rounds differently. Functions that learn for each channel are not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aquasurf_ray.activations.expression import Expression, Program, run_program
from aquasurf_ray.activations.module import Activation
from aquasurf_ray.activations.registry import operator_named

PIECE = 65_536
"""The elements that one thread computes at a time: 256 KB of float32; about eight such tensors fit a core's cache."""


class RecomputedActivation(Activation):
    """`Activation` with the same values and gradients, bit for bit, that keeps only its input.

    Works under autocast (the backward pass computes in the types of the forward pass), in every float type, with any
    memory format, and for second derivatives, which keep what eager keeps. In a network that is compiled as a whole it
    is the eager form, because there the compiler decides what to keep. User-defined operators must return the same
    result when called again, so they must not draw random numbers.

    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> y = RecomputedActivation("mul(sigmoid(x),elu(x))")(x)
    >>> torch.autograd.grad(y.sum(), x)[0]
    tensor([-0.0253,  1.0908])
    """

    def __init__(self, expression: str | Expression, **settings: Any) -> None:
        super().__init__(expression, **settings)
        self._may_be_cut = _is_elementwise(self.expression) and not any(p.per_channel for p in self.learned.values())

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's values at `x`, of the same shape."""
        parameters = self.parameters_at(x)
        if torch.compiler.is_compiling():
            return run_program(self._program, x, parameters)
        if needs_gradient(x, parameters):
            result: Tensor = _Recomputed.apply(self._program, self._may_be_cut, x, *parameters)
            return result
        return values(self._program, x, parameters, self._may_be_cut)


class AutocastState(NamedTuple):
    """The state of autocast on a type of device: whether it is on, and the type that it casts to."""

    enabled: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, device_type: str) -> AutocastState:
        """Return the state of this thread."""
        return cls(torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type))

    def on(self, device_type: str) -> AbstractContextManager[object]:
        """Return a context in which autocast is in this state."""
        if AutocastState.of(device_type) == self:
            return nullcontext()
        return torch.autocast(device_type, dtype=self.dtype, enabled=self.enabled)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: Program, may_be_cut: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        ctx.steps, ctx.may_be_cut = steps, may_be_cut
        ctx.autocast = AutocastState.of(x.device.type)
        y = values(steps, x, parameters, may_be_cut)
        return y.clone() if y is x else y  # a view out of a custom function cannot be changed in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        with ctx.autocast.on(x.device.type):
            if torch.is_grad_enabled():
                found = differentiable_gradients(ctx.steps, x, parameters, gradients[0], ctx.needs_input_grad[2:])
                return None, None, *found
            return None, None, *_gradients(ctx.steps, x, parameters, gradients[0], ctx.may_be_cut)


def needs_gradient(x: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Return whether a result is to have a graph."""
    return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters))


def values(steps: Program, x: Tensor, parameters: Sequence[Tensor], may_be_cut: bool) -> Tensor:
    """Return the program's values at `x`, without a graph."""
    piece = _piece(x) if may_be_cut else None
    if piece is None:
        return run_program(steps, x, parameters)
    return _in_pieces(lambda part: run_program(steps, part, parameters), piece, x)


def _gradients(
    steps: Program, x: Tensor, parameters: Sequence[Tensor], gradient_of_values: Tensor, may_be_cut: bool
) -> list[Tensor]:
    """Return the gradients of the program with respect to `x` and to its parameters, without a graph of their own."""
    sums: list[Tensor] = []

    def of_part(part: Tensor, part_gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (part, *parameters)]
            result = run_program(steps, leaves[0], leaves[1:])
        of_x, *of_parameters = all_gradients(result, leaves, part_gradient)
        sums[:] = [a + b for a, b in zip(sums, of_parameters, strict=True)] if sums else of_parameters
        return of_x

    piece = _piece(x) if may_be_cut else None
    if piece is None:
        return [of_part(x, gradient_of_values), *sums]
    of_x = _in_pieces(of_part, piece, x, like(x, gradient_of_values))
    return [of_x, *sums]


def all_gradients(result: Tensor, leaves: Sequence[Tensor], gradient_of_values: Tensor) -> list[Tensor]:
    """Return the gradients by x and by parameters; zero by a parameter that the value does not depend on."""
    if len(leaves) == 1:
        return [torch.autograd.grad(result, leaves, gradient_of_values)[0]]
    found = torch.autograd.grad(result, leaves, gradient_of_values, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


def differentiable_gradients(
    steps: Program,
    x: Tensor,
    parameters: Sequence[Tensor],
    gradient_of_values: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients by `x` and by the parameters where they are needed, with a graph, for second derivatives."""
    result = run_program(steps, x, parameters)
    leaves = [tensor for tensor, is_needed in zip((x, *parameters), needed, strict=True) if is_needed]
    found = iter(torch.autograd.grad(result, leaves, gradient_of_values, create_graph=True, allow_unused=True))
    return [next(found) if is_needed else None for is_needed in needed]


def flat(x: Tensor) -> Tensor | None:
    """Return the elements of a dense tensor in memory order, as a view of shape (n,); None if it has gaps."""
    if not x.is_contiguous():
        channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
        if channels_last is None or not x.is_contiguous(memory_format=channels_last):
            return None
    return x.as_strided((x.numel(),), (1,))


def like(x: Tensor, other: Tensor) -> Tensor:
    """Return `other` in the memory format of `x`."""
    if other.stride() == x.stride():
        return other
    return torch.empty_like(x, dtype=other.dtype).copy_(other)


def _is_elementwise(expression: Expression) -> bool:
    """Return whether all operators are built in; a user-defined one might use more than one element at a time."""
    if expression.operator is None:
        return True
    return operator_named(expression.operator).built_in and all(map(_is_elementwise, expression.arguments))


def _piece(x: Tensor) -> int | None:
    """Return the number of elements of a piece of `x`, or None if cutting it would gain nothing or change bits."""
    if x.device.type != "cpu":
        return None
    n_threads = torch.get_num_threads()
    piece, n = PIECE * n_threads, x.numel()
    if n < 2 * piece or (n_threads > 1 and n % piece) or flat(x) is None:
        return None
    return piece


def _in_pieces(function: Callable[..., Tensor], piece: int, *tensors: Tensor) -> Tensor:
    """Apply an elementwise function to dense tensors of one layout, piece by piece, into a tensor like the first."""
    parts = zip(*(torch.split(_flattened(tensor), piece) for tensor in tensors), strict=True)
    first = function(*next(parts))
    result = torch.empty_like(tensors[0], dtype=first.dtype)
    places = iter(torch.split(_flattened(result), piece))
    next(places).copy_(first)
    for place, part in zip(places, parts, strict=True):
        place.copy_(function(*part))
    return result


def _flattened(x: Tensor) -> Tensor:
    view = flat(x)
    assert view is not None  # noqa: S101 - `_piece` looked
    return view
