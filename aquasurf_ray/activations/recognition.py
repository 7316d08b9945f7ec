"""The expression of a module's function: an `nn.GELU`, a `LeakyReLU(0.1)`, or somebody's own module.

A module is recognised by its values on a grid, wider than the sample that tells functions apart, so that ReLU6 is not
taken for ReLU, and by its derivatives by its parameters, so that x + sin²(x) is not taken for Snake, which learns a
frequency. Tried are the named functions with their published constants, then those with constants that can be given,
with the numbers that the module itself has, such as its `negative_slope`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import count, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import parse
from aquasurf_ray.activations.identity import apply, exact_arithmetic
from aquasurf_ray.activations.module import Activation
from aquasurf_ray.activations.named_functions import ZOO
from aquasurf_ray.activations.registry import MAX_NAME_LENGTH, is_reserved, register_unary
from aquasurf_ray.baselines import BASELINES

REACH = 20.0
N_POINTS = 801
TOLERANCE = 1e-6  # relative and absolute; PyTorch's own functions are rounded differently from ours, by less than 1e-12
STEP = 1e-5
MOST_CONSTANTS = 2
MOST_NUMBERS = 6  # of a module, each of which may be a constant of the function


def recognised(function: Callable[[Tensor], Tensor]) -> str | None:
    """Return an expression that computes what a module or a function of tensors computes, or None.

    >>> recognised(nn.LeakyReLU(0.1))
    'add(relu(x),mul(0.1,min(x,0)))'
    >>> recognised(nn.GELU()), recognised(nn.ReLU(inplace=True))
    ('gelu(x)', 'relu(x)')
    """
    if isinstance(function, nn.PReLU) and _is_per_channel(function):
        first = function.weight[0].item()
        same = bool((function.weight == first).all())
        return str(parse(f"add(relu(x),mul(learn_channel({first:.7g}),min(x,0)))")) if same else None
    if not isinstance(function, nn.Module) and _has_tensors(function):
        return None
    function = _in_float64(function)
    wanted, by_parameters = _values(function), _derivatives(function)
    if wanted is None or by_parameters is None or not np.isfinite(wanted).all():
        return None
    for text in _candidates(function):
        values = _values(parse(text).evaluate)
        if _is_close(values, wanted) and _are_close(_derivatives(Activation(text).double()), by_parameters):
            return text
    return None


def _is_per_channel(function: object) -> bool:
    return isinstance(function, nn.PReLU) and function.num_parameters > 1


def _in_float64(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return deepcopy(function).to("cpu", torch.float64).eval() if isinstance(function, nn.Module) else function


def _is_close(values: NDArray[np.float64] | None, wanted: NDArray[np.float64]) -> bool:
    return values is not None and np.allclose(values, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def _are_close(found: list[NDArray[np.float64]] | None, wanted: list[NDArray[np.float64]]) -> bool:
    """Return whether both are the same derivatives, in any order."""
    left = list(wanted)
    for each in found or ():
        match = next((i for i, other in enumerate(left) if _is_close(each, other)), None)
        if match is None:
            return False
        del left[match]
    return found is not None and not left


def _derivatives(function: Callable[[Tensor], Tensor]) -> list[NDArray[np.float64]] | None:
    """Return the derivatives on the grid by each number among the parameters, by central differences; None where the
    function is not defined around them."""
    found = []
    for parameter in function.parameters() if isinstance(function, nn.Module) else ():
        numbers = parameter.detach().view(-1)
        for i in range(len(numbers)):
            value = numbers[i].item()
            numbers[i] = value + STEP
            above = _values(function)
            numbers[i] = value - STEP
            below = _values(function)
            numbers[i] = value
            if above is None or below is None:
                return None
            found.append((above - below) / (2 * STEP))
    return found


def most_common(functions: Sequence[Callable[[Tensor], Tensor]]) -> list[tuple[Callable[[Tensor], Tensor], int]]:
    """Return each function once, with how often it is there, the most frequent first and else the first.

    Functions are the same where their values and the initial values of what they learn are.

    >>> [(type(each).__name__, n) for each, n in most_common([nn.PReLU(), nn.ELU(0.5), nn.ELU(), nn.ELU()])]
    [('ELU', 2), ('PReLU', 1), ('ELU', 1)]
    """
    identities = {key: _identity(function) for key, function in {id(each): each for each in functions}.items()}
    same: dict[object, list[Callable[[Tensor], Tensor]]] = {}
    for function in functions:
        same.setdefault(identities[id(function)], []).append(function)
    return sorted(((each[0], len(each)) for each in same.values()), key=lambda found: -found[1])


def _identity(function: Callable[[Tensor], Tensor]) -> object:
    """Return what is equal for functions that compute the same, or, where they have no values on the grid, for those
    with the same text."""
    learned = list(function.parameters()) if isinstance(function, nn.Module) else []
    kind = (type(function), *(tuple(each.detach().flatten().tolist()) for each in learned)) if learned else None
    if _is_per_channel(function) or (not learned and _has_tensors(function)):
        return kind or repr(function)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a function that draws numbers is the same as another one of its kind
        values = _values(_in_float64(function))
    # Rounded, since one function may be computed in two ways.
    return kind, repr(function) if values is None else (values.astype(np.float32) + 0.0).tobytes()


def own_expressions(functions: Sequence[Callable[[Tensor], Tensor]]) -> list[str | None]:
    """Return the expressions of modules or functions of one network. What no expression computes becomes an operator of
    this process itself, under the name of its class, or its own name with the numbers that are bound to it; where two
    of one name compute different things, such as MyAct(1) and MyAct(2), the second is `my_act_2`.

    None for what no operator can be: what has parameters, buffers or tensors, draws random numbers, or computes more
    than one number from another.
    """
    found, taken = list[str | None](), dict[str, NDArray[np.float64]]()
    for function in functions:
        known = recognised(function)
        if known is not None or _has_tensors(function) or not _is_elementwise(function):
            found.append(known)
            continue
        values = _values(function)
        assert values is not None  # noqa: S101 - it is elementwise
        name = next(each for each in _names_of(function) if np.array_equal(taken.get(each, values), values))
        taken[name] = values
        register_unary(name, OwnModule(function), replace=True)
        found.append(str(parse(f"{name}(x)")))
    return found


def _names_of(function: object) -> Iterator[str]:
    """Yield the names that a function may have as an operator, the best first."""
    first = _name_of(function)
    if is_reserved(first):
        first = f"own_{first}"
    yield first[:MAX_NAME_LENGTH]
    for number in count(2):
        end = f"_{number}"
        yield first[: MAX_NAME_LENGTH - len(end)] + end


def _name_of(function: object) -> str:
    """Return the name of an operator: `my_act` for a module MyAct, `threshold_0_1_20` for threshold(x, 0.1, 20) and for
    PyTorch's module of it. A class of somebody's own can be renamed where two of its functions would share the name."""
    if isinstance(function, nn.Module):
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(function).__name__)
        numbers = _numbers_of(function) if type(function).__module__.startswith("torch.") else []
    else:
        known = function.func if isinstance(function, partial) else function
        name = str(getattr(known, "__name__", type(known).__name__))
        numbers = [value for value in _settings_of(function) if isinstance(value, int | float)]
    text = "_".join([name, *(f"{value:g}" for value in numbers)]).replace("-", "minus_")
    return re.sub(r"\W+", "_", text).strip("_").lower()


def _numbers_of(module: nn.Module) -> list[float]:
    """Return the constants of one of PyTorch's modules, without its flags."""
    return [value for value in vars(module).values() if type(value) in (int, float)]


class OwnModule:
    """A module or function as an operator: what it gets stays as it is, also if it works in place."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values."""
        return self._function(x.clone())


def _has_tensors(function: object) -> bool:
    if isinstance(function, nn.Module):
        return next(function.parameters(), None) is not None or next(function.buffers(), None) is not None
    return any(isinstance(value, Tensor) for value in _settings_of(function))


def _is_elementwise(function: Callable[[Tensor], Tensor]) -> bool:
    values = _values(function)
    if values is None or not np.isfinite(values).all():
        return False
    others = (_values(function), _values(lambda x: function(x.flip(0)).flip(0)))
    return all(each is not None and np.array_equal(each, values) for each in others)


def _values(function: Callable[[Tensor], Tensor]) -> NDArray[np.float64] | None:
    """Return the values on the grid; None if the function fails there, or does not give one number for each point."""
    x = torch.linspace(-REACH, REACH, N_POINTS, dtype=torch.float64)
    with exact_arithmetic(), torch.no_grad():
        # A copy, because a function may work in place.
        values = apply(lambda x: function(x.clone()), x, name=str(function))
        return None if values is None else values.numpy()


def _settings_of(function: object) -> Iterator[object]:
    """Yield the attributes of a module or another object, the numbers that it learns, and a function's arguments."""
    values = list(getattr(function, "__dict__", {}).values())
    if isinstance(function, nn.Module):
        values += [parameter.item() for parameter in function.parameters() if parameter.numel() == 1]
    if isinstance(function, partial):
        values += [function.args, function.keywords]
    for value in values:
        yield from value if isinstance(value, tuple) else value.values() if type(value) is dict else (value,)


def _candidates(function: object) -> Iterator[str]:
    """Yield expressions that it may be: the paper's baselines by the names that runs have them under, the zoo, then
    functions with the module's own numbers in the place of their constants. Parameters are learned once for all
    channels: a module with a number for each channel is none of a number alone, and only PReLU is known."""
    yield from BASELINES
    for text in _of_zoo(function):
        yield text.replace("learn_channel(", "learn(")


def _of_zoo(function: object) -> Iterator[str]:
    yield from (str(parse(each.name)) for each in ZOO)
    known = [float(v) for v in _settings_of(function) if isinstance(v, int | float) and not isinstance(v, bool)]
    numbers = [repr(value) for value in dict.fromkeys(known)][:MOST_NUMBERS]
    for each in ZOO:
        if each.constants and len(each.constants) <= MOST_CONSTANTS:
            for constants in product(numbers, repeat=len(each.constants)):
                try:
                    yield str(parse(each.text(constants)))
                except ActivationError:  # a number that the function does not take
                    continue
