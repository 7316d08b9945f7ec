"""Runs a network once and records every activation function that it calls, which module called it, and where.

It is taken at two levels, because each has a blind spot: functions called from Python (`softsign` is a division at the
level of operators) and operators as they are executed (scripted code and fused kernels are not called from Python).
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from aquasurf_ray.network_state import modes_and_buffers_kept
from aquasurf_ray.tasks.inputs import Inputs, call_network
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATION_CALLS, GATE_CALLS, called_name

TORCH = f"{Path(torch.__file__).parent}{os.sep}"
HERE = f"{Path(__file__).parent}{os.sep}"
ALIASES = {
    "log_sigmoid": "logsigmoid",
    "log_sigmoid_forward": "logsigmoid",
    "prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
}
BACKWARD = "the backward pass"
BOUNDED = frozenset({"hardtanh", "relu6", "softsign", "tanh"})
"""Functions that are gates where another tensor is multiplied by them: cells of recurrent networks, a GELU or a
hard swish that is written out."""
SCALED = frozenset({"add", "div", "mul", "neg", "radd", "rmul", "rsub", "sub", "truediv"})
"""Operations with a number, after which a value is still that of the function, for this purpose."""
PRODUCTS = frozenset({"mul", "multiply", "rmul"})


Record = Callable[..., "ActivationCall | None"]
NOT_SETTINGS = frozenset({"inplace", "input", "out"})


@dataclass(frozen=True, order=True)
class ActivationCall:
    """One activation function that a module calls, by the module's name in the network and the function's in PyTorch.

    `place` is the file and line of the call, or, where PyTorch's own code calls the function, of the call into it.
    `in_python` is true if the function was called from Python, `multiplies` if another tensor was multiplied by it,
    `repeated` if the backward pass calls it again outside of every module, as a checkpoint of a function does.
    `own` is the function with the other arguments of the call, and `settings` its text.
    """

    module: str
    function: str
    settings: str = field(default="", repr=False)
    own: CalledFunction | None = field(default=None, compare=False, repr=False)
    place: str = field(default="", compare=False, repr=False)
    in_python: bool = field(default=False, compare=False, repr=False)
    multiplies: bool = field(default=False, compare=False, repr=False)
    repeated: bool = field(default=False, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the call as text, with file and line; the network's own `forward` is in no module that has a name."""
        where = f" in '{self.module}'" if self.module else ""
        return f"{self.function}{where} ({self.place})"

    @property
    def is_gate(self) -> bool:
        """True if networks multiply or average by this function: those into [0, 1], and bounded ones in a product."""
        return self.function in GATE_CALLS or (self.function in BOUNDED and self.multiplies)


@dataclass(frozen=True)
class CalledFunction:
    """A function as it was called, with the arguments of the call but its input: `rest` by position, `settings` by
    name."""

    function: Callable[..., Tensor]
    rest: tuple[Any, ...]
    settings: Mapping[str, Any]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the function's values."""
        return self.function(x, *self.rest, **self.settings)

    @property
    def __name__(self) -> str:
        return called_name(self.function)

    def __repr__(self) -> str:
        named = [f"{key}={value!r}" for key, value in self.settings.items()]
        return f"{self.__name__}({', '.join(['x', *map(repr, self.rest), *named])})"


def function_name(function: object) -> str:
    """Return the name of a function or operator as in the sets of `activation_kinds`."""
    name = called_name(function)
    return ALIASES.get(name, name)


def activation_calls(
    network: nn.Module, inputs: Inputs, *, outside: Collection[nn.Module] = (), backward: bool = False
) -> tuple[ActivationCall, ...]:
    """Return the activation functions called in one pass in training mode, sorted, each caller and function with its
    settings once.

    Args:
        network: left as it was found: mode and buffers, and torch's generator on the CPU.
        inputs: a batch (n, ...) in any form of `aquasurf_ray.tasks.inputs`, n at least 2 where there is batch norm.
        outside: modules not to look into, nor into what they call.
        backward: run the backward pass too, in which checkpointed code is run again. No gradient is left behind.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> activation_calls(network, torch.zeros(2, 3))
    (ActivationCall(module='1', function='tanh'),)
    """
    ignored = {id(module) for module in outside}
    calls: dict[ActivationCall, ActivationCall] = {}
    repeats: set[tuple[str, str]] = set()
    entered: list[tuple[str, bool]] = [("", id(network) in ignored)]

    def record(function: Any, in_python: bool, args: Sequence[Any] = (), kwargs: Any = None) -> ActivationCall | None:
        name = function_name(function)
        caller, is_ignored = entered[-1]
        if is_ignored or not (name in ACTIVATION_CALLS or name in GATE_CALLS):
            return None
        place = _place()
        if caller is BACKWARD:
            repeats.add((name, place))
            return None
        if not in_python:  # an operator: the function that calls it has been recorded before, if there is one
            call = next((each for each in calls if (each.module, each.function) == (caller, name)), None)
            return call or calls.setdefault(new := ActivationCall(caller, name, place=place), new)
        own = _called(name, function, args, kwargs or {})
        call = ActivationCall(caller, name, repr(own), own, place, in_python)
        return calls.setdefault(call, call)

    with ExitStack() as stack:
        for name, module in network.named_modules():
            stack.enter_context(_followed(module, name, id(module) in ignored, entered))
        stack.enter_context(modes_and_buffers_kept(network))
        network.train()
        functions = stack.enter_context(_Functions(record))
        stack.enter_context(_Operators(record))
        returned = call_network(network, inputs)
        if backward:
            entered[0] = (BACKWARD, False)
            _run_backward(network, returned)
    found = (
        replace(call, multiplies=call in functions.factors, repeated=(call.function, call.place) in repeats)
        for call in calls.values()
    )
    return tuple(sorted(found))


def _called(name: str, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CalledFunction:
    # A function and the method or the call in place of the same name are PyTorch's function of this name.
    known = getattr(functional, name, function)
    try:
        named = dict(inspect.signature(known).bind(*args, **kwargs).arguments)
        named.pop(next(iter(named)))  # the input
        rest: tuple[Any, ...] = ()
    except (TypeError, ValueError):  # a function written in C++, which tells no names of its arguments
        named, rest = dict(kwargs), tuple(args[1:])
    return CalledFunction(known, rest, {key: value for key, value in named.items() if key not in NOT_SETTINGS})


def _run_backward(network: nn.Module, returned: Any) -> None:
    """Run the backward pass, without a trace in the gradients.

    The engine is called itself: `torch.autograd.grad` and `backward` are functions that suspend the mode which records
    them, and so hide what a checkpoint calls meanwhile.
    """
    outputs = output_of(returned)
    weights = tuple(parameter for parameter in network.parameters() if parameter.requires_grad)
    if outputs.requires_grad and weights:
        total = outputs.sum()
        engine: Any = torch.autograd.Variable._execution_engine
        engine.run_backward((total,), (torch.ones_like(total),), False, False, weights, True, False)


def _place() -> str:
    """Return file and line of the innermost call outside of PyTorch, relative to the working folder if inside."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((TORCH, HERE)):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{frame.f_lineno}"


class _Functions(TorchFunctionMode):
    """Records functions, and in `factors` the bounded ones by whose values another tensor is multiplied."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record
        self.factors: set[ActivationCall] = set()
        self._values: dict[int, tuple[Tensor, ActivationCall]] = {}  # the tensor too, so that its id stays its own

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = self.record(func, True, args, kwargs)
        result = func(*args, **(kwargs or {}))
        if call is None:
            name = called_name(func)
            for mine, other in (args[:2], args[1::-1]) if len(args) == 2 else (args[:1] * 2,) if args else ():
                call = call or self._passed_on(name, mine, other)
        if call is not None and call.function in BOUNDED and isinstance(result, Tensor):
            self._values[id(result)] = result, call
        return result

    def _passed_on(self, name: str, value: Any, other: Any) -> ActivationCall | None:
        """Return the call whose value an operation with a number has changed; note a product with another tensor."""
        _, call = self._values.get(id(value), (None, None))
        if call is None or name not in SCALED | PRODUCTS:
            return None
        if other is value or not isinstance(other, Tensor) or other.numel() <= 1:
            return call
        if name in PRODUCTS and not isinstance(other, nn.Parameter):  # a learned scale is not a gate
            self.factors.add(call)
        return None


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, record: Record) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.record(func.overloadpacket, False)
        return func(*args, **(kwargs or {}))


@contextmanager
def _followed(module: nn.Module, name: str, ignored: bool, entered: list[tuple[str, bool]]) -> Iterator[None]:
    """Maintain the innermost running module on top of `entered`."""

    def enter(*_: object) -> None:
        entered.append((name, ignored or entered[-1][1]))

    def leave(*_: object) -> None:
        entered.pop()

    with module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True):
        yield
