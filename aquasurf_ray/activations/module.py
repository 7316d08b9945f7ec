"""An expression as a PyTorch module, which a network uses as its activation function.

The module's state is the text of the expression, which is all that pickling and `torch.save` store of the function, and
its learned parameters: `learned_a` for the one that is named a. It works under torch.compile (fullgraph), autocast,
every float type and on any device.

Functions of the zoo that PyTorch has as one kernel, such as `leaky_relu` with any slope, are computed by that kernel,
also as a part of another function. They cost what the modules of `torch.nn` cost, and at a kink they have the modules'
slope, one of the two on its sides, where the formula written out in operators has their mean.

A parameter of a layer is a number; one of channels is a vector, sized when the network first runs (`channel_dim` says
which dimension has the channels). Make it run once before an optimiser is made: `aquasurf_ray.activations.learned`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from aquasurf_ray.activations import operator_functions
from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import (
    Expression,
    Kernel,
    Number,
    Program,
    number_in,
    parse,
    program_of,
    run_program,
)
from aquasurf_ray.activations.formulas import kernel_match
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.registry import Elementwise

PREFIX = "learned_"


class Activation(nn.Module):
    """An activation function, elementwise on tensors of any shape.

    Args:
        expression: an `Expression`, or its text.
        inplace: accepted because networks pass it to their activations, but ignored, because composed functions need
            their input again in the backward pass.
        channels: the number of channels, for parameters of channels that are to have their size at once.
        channel_dim: the dimension of the channels; None for the last of inputs of one dimension and of three (tokens),
            else dimension 1 (images). `learned.sized` sets it by the layer before.

    Raises:
        ExpressionError: if the text is not an expression.

    >>> import torch
    >>> Activation("mul(sigmoid(x), elu(x))")
    Activation(mul(sigmoid(x),elu(x)))
    >>> Activation("relu(x)")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    >>> dict(Activation("mul(learn(0.5),x)").named_parameters())
    {'learned_a': Parameter containing:
    tensor(0.5000, requires_grad=True)}
    """

    def __init__(
        self,
        expression: str | Expression,
        *,
        inplace: bool = False,
        channels: int | None = None,
        channel_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.expression = expression if isinstance(expression, Expression) else parse(expression)
        self.channel_dim = channel_dim
        self._program = program_with_kernels(self.expression)
        self._learned = _by_name(self.expression)
        for name, learned in self._learned.items():
            if learned.per_channel and channels is None:
                setattr(self, name, UninitializedParameter())
            else:
                shape = (channels,) if learned.per_channel and channels is not None else ()
                initial = number_in(torch.get_default_dtype(), learned.initial)
                self.register_parameter(name, nn.Parameter(torch.full(shape, initial)))

    @property
    def name(self) -> str:
        """The canonical spelling of the expression."""
        return str(self.expression)

    @property
    def learned(self) -> Mapping[str, Learned]:
        """The learned parameters as the expression has them, by their names as parameters of this module."""
        return self._learned

    @property
    def is_one_call(self) -> bool:
        """Whether at most one call computes the function, that of an operator or a kernel, so that another form could
        save nothing."""
        calls = [step for step in self._program if not isinstance(step.function, Number)]
        return self.expression.n_operators < 2 or len(calls) < 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's values at `x`, of the same shape.

        Raises:
            ActivationError: `x` has another number of channels than the parameters, or none.
        """
        return self.values(x, self.parameters_at(x))

    def values(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Return the function's values at `x` with other learned parameters, which broadcast with it."""
        return run_program(self._program, x, parameters)

    def parameters_at(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the learned parameters in the type of `x` and in shapes that broadcast with it; size the unsized.

        Raises:
            ActivationError: `x` has another number of channels than the parameters, or none.
        """
        if not self._learned:
            return ()
        return tuple(
            self._at_channels(name, x) if learned.per_channel else getattr(self, name).to(x.dtype)
            for name, learned in self._learned.items()
        )

    def _at_channels(self, name: str, x: Tensor) -> Tensor:
        dim = self.channel_dim_of(x)
        parameter = getattr(self, name)
        if isinstance(parameter, UninitializedParameter):
            self._size(name, x.shape[dim])
        elif len(parameter) != x.shape[dim]:
            raise ActivationError(
                f"{self.name} has learned {len(parameter)} channels, got {x.shape[dim]} in dimension {dim} of "
                f"{tuple(x.shape)}; give each layer a module of its own, or set its channel_dim"
            )
        shape = [1] * x.dim()
        shape[dim] = x.shape[dim]
        return getattr(self, name).to(x.dtype).view(shape)  # type: ignore[no-any-return]

    def channel_dim_of(self, x: Tensor) -> int:
        """Return the dimension of the channels of `x`, counted from 0.

        Raises:
            ActivationError: `x` has no such dimension.
        """
        # Tokens are (n, t, channels), and images (n, channels, h, w).
        dim = (-1 if x.dim() in (1, 3) else 1) if self.channel_dim is None else self.channel_dim
        if not -x.dim() <= dim < x.dim():
            raise ActivationError(f"{self.name} learns for each channel, and {tuple(x.shape)} has no dimension {dim}")
        return dim % x.dim()

    def _size(self, name: str, channels: int) -> None:
        """Give an unsized parameter its size and its initial values."""
        # A tensor made in inference mode could never be trained, and the first input may come in that mode.
        with torch.inference_mode(False), torch.no_grad():
            parameter = getattr(self, name)
            parameter.materialize((channels,))
            parameter.fill_(number_in(parameter.dtype, self._learned[name].initial))

    def extra_repr(self) -> str:
        """Return the expression, which `print(network)` shows."""
        return self.name

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the functions, which are looked up again where the module is unpickled."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_program", "_learned")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__dict__.setdefault("channel_dim", None)  # pickles of before there were learned parameters
        self._program = program_with_kernels(self.expression)
        self._learned = _by_name(self.expression)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save parameters without a size as they are: they cannot be detached."""
        unsized = {name: p for name, p in self._parameters.items() if p is not None and is_lazy(p)}
        # PyTorch's method would detach each parameter, which fails on one without a size.
        self._parameters.update(dict.fromkeys(unsized))
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, parameter in unsized.items():
            destination[prefix + name] = self._parameters[name] = parameter

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Give parameters without a size that of the saved ones."""
        for name in self._learned:
            saved = state_dict.get(prefix + name)
            if saved is not None and is_lazy(getattr(self, name)) and not is_lazy(saved):
                self._size(name, len(saved))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


@dataclass(frozen=True)
class _WithConstants:
    """A kernel's function with its constants."""

    function: Elementwise
    constants: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, *self.constants)


def program_with_kernels(expression: Expression) -> Program:
    """Return the steps that a network computes an expression by, with PyTorch's kernels for parts that it has one for.

    >>> [len(program_with_kernels(parse(text))) for text in ("leaky_relu(0.1)", "mul(x,relu6(tanh(x)))")]
    [1, 3]
    """
    return program_of(expression, _kernel_of)


def _kernel_of(expression: Expression) -> Kernel | None:
    match = kernel_match(expression)
    if match is None:
        return None
    function: Elementwise = attrgetter(match.function.kernel)(operator_functions)
    return _WithConstants(function, match.constants) if match.constants else function, match.argument


def _by_name(expression: Expression) -> dict[str, Learned]:
    names = (PREFIX + name for name in expression.parameter_names)
    return dict(zip(names, expression.parameters, strict=True))
