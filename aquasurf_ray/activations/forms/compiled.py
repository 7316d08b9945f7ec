"""An activation whose forward and backward pass are one compiled kernel each; it keeps nothing but its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aquasurf_ray.activations.expression import Expression, Program
from aquasurf_ray.activations.forms.kernels import Arguments, Kernels, kernels_or_none
from aquasurf_ray.activations.forms.recomputed import (
    RecomputedActivation,
    differentiable_gradients,
    flat,
    needs_gradient,
)


class CompiledActivation(RecomputedActivation):
    """`Activation` with the same values and gradients up to rounding, each computed in one pass over memory.

    The kernels are compiled (some seconds), or loaded from disk, at the first call for each float type, device and
    state of autocast. Tensors without kernels are computed as by `RecomputedActivation`: those with gaps, those whose
    number of elements is no multiple of 64, and all tensors if there is no compiler, which is logged once a process.
    """

    def __init__(self, expression: str | Expression, **settings: Any) -> None:
        super().__init__(expression, **settings)
        self._kernels: dict[Arguments, Kernels | None] = {}
        self._of_channels = any(learned.per_channel for learned in self.learned.values())

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's values at `x`, of the same shape."""
        # torch.compile would find a call into a kernel opaque; it fuses the recomputed form itself.
        kernels = None if torch.compiler.is_compiling() else self.kernels_for(x)
        if kernels is None:
            return super().forward(x)
        parameters = self.parameters_at(x)
        dim = self.channel_dim_of(x) if self._of_channels else 1
        if needs_gradient(x, parameters):
            result: Tensor = _Compiled.apply(kernels, self._program, dim, x, *parameters)
            return result
        return kernels.values(x, parameters, dim)

    def kernels_for(self, x: Tensor) -> Kernels | None:
        """Return the kernels that compute `x`, or None if it is computed without."""
        # A kernel walks memory in one pass, which a tensor with gaps does not allow.
        if flat(x) is None:
            return None
        per_channel = tuple(learned.per_channel for learned in self.learned.values())
        arguments = Arguments.of(x, per_channel, self.channel_dim_of(x) if self._of_channels else 1)
        if arguments is None:
            return None
        if arguments not in self._kernels:
            self._kernels[arguments] = kernels_or_none(self._program, arguments)
        return self._kernels[arguments]

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but functions and kernels, which are looked up again where the module is unpickled."""
        return super().__getstate__() | {"_kernels": {}}


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, steps: Program, dim: int, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        ctx.kernels, ctx.steps, ctx.dim = kernels, steps, dim
        return kernels.values(x, parameters, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        # Only for second derivatives (create_graph=True), which the kernels do not have.
        if torch.is_grad_enabled():
            with ctx.kernels.autocast.on(x.device.type):
                found = differentiable_gradients(ctx.steps, x, parameters, gradients[0], ctx.needs_input_grad[3:])
                return None, None, None, *found
        return None, None, None, *ctx.kernels.gradients(x, gradients[0], parameters, ctx.dim)
