"""The expression of a module's function: an `nn.GELU`, a `LeakyReLU(0.1)`, or somebody's own module.

A module is recognised by its values on a grid, wider than the sample that tells functions apart, so that ReLU6 is not
taken for ReLU. Tried are the named
functions with their published constants, then those with constants that can be given, with the numbers that the module
itself has, such as its `negative_slope`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_ray.activations.errors import ActivationError, OperatorError
from aquasurf_ray.activations.expression import parse
from aquasurf_ray.activations.identity import apply, exact_arithmetic
from aquasurf_ray.activations.named_functions import ZOO
from aquasurf_ray.activations.registry import register_unary
from aquasurf_ray.baselines import BASELINES

REACH = 20.0
N_POINTS = 801
TOLERANCE = 1e-6  # relative and absolute; PyTorch's own functions are rounded differently from ours, by less than 1e-12
MOST_CONSTANTS = 2
MOST_NUMBERS = 6  # of a module, each of which may be a constant of the function


def recognised(function: Callable[[Tensor], Tensor]) -> str | None:
    """Return an expression that computes what a module or a function of tensors computes, or None.

    >>> recognised(nn.LeakyReLU(0.1))
    'add(relu(x),mul(0.1,min(x,0)))'
    >>> recognised(nn.GELU()), recognised(nn.ReLU(inplace=True))
    ('gelu(x)', 'relu(x)')
    """
    if isinstance(function, nn.Module):
        function = deepcopy(function).to("cpu", torch.float64).eval()
    wanted = _values(function)
    if wanted is None or not np.isfinite(wanted).all():
        return None
    for text in _candidates(function):
        values = _values(parse(text).evaluate)
        if values is not None and np.allclose(values, wanted, rtol=TOLERANCE, atol=TOLERANCE):
            return text
    return None


def own_expression(function: Callable[[Tensor], Tensor]) -> str | None:
    """Return the expression of a module's function. If no expression computes it, the module itself becomes an operator
    of this process, under the name of its class.

    None for a module that no operator can be: one that has parameters or buffers, draws random numbers, or computes
    more than one number from another.
    """
    known = recognised(function)
    if known is not None or not isinstance(function, nn.Module) or not _is_elementwise(function):
        return known
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(function).__name__).lower()
    try:
        register_unary(name, OwnModule(function), replace=True)
    except OperatorError:  # the name of a built-in operator that computes something else
        name = f"own_{name}"
        register_unary(name, OwnModule(function), replace=True)
    return str(parse(f"{name}(x)"))


class OwnModule:
    """A module as an operator: what it gets stays as it is, also if the module works in place."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, x: Tensor) -> Tensor:
        """Return the module's values."""
        found: Tensor = self._module(x.clone())
        return found


def _is_elementwise(module: nn.Module) -> bool:
    if next(module.parameters(), None) is not None or next(module.buffers(), None) is not None:
        return False
    values = _values(module)
    if values is None or not np.isfinite(values).all():
        return False
    others = (_values(module), _values(lambda x: module(x.flip(0)).flip(0)))
    return all(each is not None and np.array_equal(each, values) for each in others)


def _values(function: Callable[[Tensor], Tensor]) -> NDArray[np.float64] | None:
    """Return the values on the grid; None if the function fails there, or does not give one number for each point."""
    x = torch.linspace(-REACH, REACH, N_POINTS, dtype=torch.float64)
    with exact_arithmetic(), torch.no_grad():
        # A copy, because a function may work in place.
        values = apply(lambda x: function(x.clone()), x, name=str(function))
        return None if values is None else values.numpy()


def _candidates(function: object) -> Iterator[str]:
    """Yield expressions that it may be: the paper's baselines by the names that runs have them under, the zoo, then
    functions with the module's own numbers in the place of their constants."""
    yield from BASELINES
    yield from (str(parse(each.name)) for each in ZOO)
    known = [value for value in getattr(function, "__dict__", {}).values() if type(value) in (int, float)]
    numbers = [repr(float(value)) for value in dict.fromkeys(known)][:MOST_NUMBERS]
    for each in ZOO:
        if each.constants and len(each.constants) <= MOST_CONSTANTS:
            for constants in product(numbers, repeat=len(each.constants)):
                try:
                    yield str(parse(each.text(constants)))
                except ActivationError:  # a number that the function does not take
                    continue
