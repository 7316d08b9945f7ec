"""Runs a network once and records every activation function that it calls, which module called it, and where.

It is taken at two levels, because each has a blind spot: functions called from Python (`softsign` is a division at the
level of operators) and operators as they are executed (scripted code and fused kernels are not called from Python).
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
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
from aquasurf_ray.tasks.replacement.value_flow import BOUNDED, COMPARISONS, PARTS, RECTIFIERS, ValueFlow, rectifier

TORCH = f"{Path(torch.__file__).parent}{os.sep}"
HERE = f"{Path(__file__).parent}{os.sep}"
ALIASES = {
    "log_sigmoid": "logsigmoid",
    "log_sigmoid_forward": "logsigmoid",
    "prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
    **dict.fromkeys(COMPARISONS, "comparison"),
}
PLACES = 6
"""The number of places that a message lists before it counts the rest."""
Record = Callable[..., "SeenCall | None"]
NOT_SETTINGS = frozenset({"inplace", "input", "out"})


@dataclass(frozen=True)
class ActivationCall:
    """One activation function that a module calls, by the module's name in the network and the function's in PyTorch.

    `places` are the files and lines of the calls, or, where PyTorch's own code calls the function, of the calls into
    it; none where only PyTorch's code does, as in an `nn.Sequential`. `count` is how often one pass of the module calls
    it, and `after` how many of the modules outside ran before.
    `in_python` is true if the function was called from Python, `multiplies` if another tensor was multiplied by it,
    `repeated` if the backward pass calls it again outside of every module, as a checkpoint of a function does.
    `written` is true if the code writes out an activation with it, as in `x * torch.sigmoid(x)`; `hidden` are the
    places where that is so, or where its values go into a layer.
    `own` is the function with the other arguments of the call, and `settings` its text.
    """

    module: str
    function: str
    settings: str = field(default="", repr=False)
    own: CalledFunction | None = field(default=None, compare=False, repr=False)
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)
    hidden: tuple[str, ...] = field(default=(), compare=False, repr=False)
    count: int = field(default=1, compare=False, repr=False)
    after: int = field(default=0, compare=False, repr=False)
    in_python: bool = field(default=False, compare=False, repr=False)
    multiplies: bool = field(default=False, compare=False, repr=False)
    written: bool = field(default=False, compare=False, repr=False)
    repeated: bool = field(default=False, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the call as text, with files and lines; the network's own `forward` is in no module that has a
        name."""
        where = f" in '{self.module}'" if self.module else ""
        places = [each for each in self.places if each]
        more = f" and {len(places) - PLACES} more" if len(places) > PLACES else ""
        return f"{self.function}{where}" + (f" ({', '.join(places[:PLACES])}{more})" if places else "")

    @property
    def stays(self) -> bool:
        """True if it is not replaced: gates, by which networks multiply or average (functions into [0, 1], and bounded
        ones in a product), and parts of an activation that is written out."""
        is_gate = self.function in GATE_CALLS or (self.function in BOUNDED and self.multiplies)
        return is_gate or self.written or self.function in PARTS

    @property
    def is_part(self) -> bool:
        """True if it is part of an activation that is written out, and no gate as well."""
        return (self.written and not self.multiplies) or self.function in PARTS


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

    @property
    def has_tensors(self) -> bool:
        """True if one of the arguments is a tensor, such as the weight of a PReLU."""
        return any(isinstance(value, Tensor) for value in (*self.rest, *self.settings.values()))

    def __repr__(self) -> str:
        named = [f"{key}={value!r}" for key, value in self.settings.items()]
        return f"{self.__name__}({', '.join(['x', *map(repr, self.rest), *named])})"


@dataclass(frozen=True)
class SeenCall:
    """A call as it is seen: the module, function and settings of an `ActivationCall`, at one place."""

    call: ActivationCall
    place: str

    @property
    def gates(self) -> bool:
        """True if a product with the function's own input is an activation that is written out."""
        return self.call.function in GATE_CALLS | BOUNDED | PARTS

    @property
    def weighs(self) -> bool:
        """True if the function's values are in [0, 1]."""
        return self.call.function in GATE_CALLS

    @property
    def rectifies(self) -> bool:
        """True if it is a ReLU in other words."""
        return self.call.function in RECTIFIERS.values()


def function_name(function: object) -> str:
    """Return the name of a function or operator as in the sets of `activation_kinds`."""
    name = called_name(function)
    return ALIASES.get(name, name)


def activation_calls(
    network: nn.Module,
    inputs: Inputs,
    *,
    outside: Collection[nn.Module] = (),
    backward: bool = False,
    training: bool = True,
) -> tuple[ActivationCall, ...]:
    """Return the activation functions called in one pass, in the order of their first calls, each caller and function
    with its settings once.

    Args:
        network: left as it was found: mode and buffers, and torch's generator on the CPU.
        inputs: a batch (n, ...) in any form of `aquasurf_ray.tasks.inputs`, n at least 2 where there is batch norm.
        outside: modules not to look into, nor into what they call.
        backward: run the backward pass too, in which checkpointed code is run again. No gradient is left behind.
        training: whether the network is in training mode.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> activation_calls(network, torch.zeros(2, 3))
    (ActivationCall(module='1', function='tanh'),)
    """
    ignored = {id(module) for module in outside}
    seen = _Seen(id(network) in ignored)
    flow = ValueFlow([*network.parameters(), *network.buffers()])
    with ExitStack() as stack:
        for name, module in network.named_modules():
            stack.enter_context(_followed(module, name, id(module) in ignored, seen))
        stack.enter_context(modes_and_buffers_kept(network))
        network.train(training)
        stack.enter_context(_Functions(seen.record, flow))
        stack.enter_context(_Operators(seen.record))
        returned = call_network(network, inputs)
        if backward:
            seen.in_backward = True
            _run_backward(network, returned)
    return seen.calls(flow)


@dataclass
class _Running:
    """A pass of one module that is running: its name, whether it is not looked into, and how often it called what."""

    name: str
    ignored: bool
    counts: Counter[ActivationCall] = field(default_factory=Counter)


class _Seen:
    """The calls that a pass has made. `running` has the innermost running module on top."""

    def __init__(self, ignored: bool) -> None:
        self.running = [_Running("", ignored)]
        self.outside: set[int] = set()
        self.in_backward = False
        self._places: dict[ActivationCall, dict[str, None]] = {}
        self._counts: Counter[ActivationCall] = Counter()
        self._repeated: set[tuple[str, str]] = set()

    def record(self, function: Any, in_python: bool, args: Sequence[Any] = (), kwargs: Any = None) -> SeenCall | None:
        """Note a call; return it if it is one of an activation or a gate, or may be a part of one."""
        name = (rectifier(function, args, kwargs or {}) if in_python else None) or function_name(function)
        running = self.running[-1]
        known = ACTIVATION_CALLS | GATE_CALLS | (PARTS if in_python else frozenset())
        # Whole numbers, such as lengths and positions, are compared and clamped for other reasons.
        if running.ignored or name not in known or (name in PARTS and not _is_of_floats(args, kwargs or {})):
            return None
        place = _place()
        if self.in_backward and len(self.running) == 1:
            self._repeated.add((name, place))
            return None
        if in_python:
            own = None if name in PARTS else _called(name, function, args, kwargs or {})
            new = ActivationCall(running.name, name, repr(own or ""), own, after=len(self.outside), in_python=True)
        else:  # an operator: the function that calls it has been recorded before, if there is one
            new = ActivationCall(running.name, name, after=len(self.outside))
        same = (each for each in self._places if (each.module, each.function) == (new.module, name))
        call = new if in_python else next(same, new)
        self._places.setdefault(call, {})[place] = None
        running.counts[call] += call.in_python == in_python
        self._counts[call] = max(self._counts[call], running.counts[call])
        return SeenCall(call, place)

    def calls(self, flow: ValueFlow) -> tuple[ActivationCall, ...]:
        """Return the calls, with what the flow of values tells of them."""
        found = []
        for call, places in self._places.items():
            at = [SeenCall(call, place) for place in places]
            hidden = tuple(each.place for each in at if each in flow.hidden)
            if call.function in PARTS and not hidden:
                continue
            found.append(
                replace(
                    call,
                    places=tuple(places),
                    hidden=hidden,
                    count=self._counts[call],
                    multiplies=any(each in flow.factors for each in at),
                    written=any(each in flow.written for each in at),
                    repeated=any((call.function, place) in self._repeated for place in places),
                )
            )
        return tuple(found)


def _is_of_floats(args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    return any(isinstance(each, Tensor) and each.is_floating_point() for each in (*args, *named.values()))


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
    """Return file and line of the innermost call outside of PyTorch, relative to the working folder if inside; "" where
    the network's own code is not among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not call_network.__code__:
        if not frame.f_code.co_filename.startswith((TORCH, HERE)):
            path, here = Path(frame.f_code.co_filename), Path.cwd()
            return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class _Functions(TorchFunctionMode):
    """Records functions, and follows their values."""

    def __init__(self, record: Record, flow: ValueFlow) -> None:
        super().__init__()
        self.record, self.flow = record, flow

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = self.record(func, True, args, kwargs)
        result = func(*args, **(kwargs or {}))
        self.flow.follow(func, args, kwargs or {}, result, call)
        return result


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, record: Record) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.record(func.overloadpacket, False)
        return func(*args, **(kwargs or {}))


@contextmanager
def _followed(module: nn.Module, name: str, ignored: bool, seen: _Seen) -> Iterator[None]:
    """Maintain the innermost running module."""

    def enter(*_: object) -> None:
        seen.outside |= {id(module)} if ignored else set()
        seen.running.append(_Running(name, ignored or seen.running[-1].ignored))

    def leave(*_: object) -> None:
        seen.running.pop()

    with module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True):
        yield
