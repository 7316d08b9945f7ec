"""Runs a network once and records every activation function that it calls, which module called it, and where.

It is taken at two levels, because each has a blind spot: functions called from Python (`softsign` is a division at the
level of operators) and operators as they are executed (scripted code and fused kernels are not called from Python).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from aquasurf_ray.tasks.inputs import Inputs, call_network
from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATION_CALLS, GATE_CALLS, called_name

TORCH = f"{Path(torch.__file__).parent}{os.sep}"
ALIASES = {"log_sigmoid_forward": "logsigmoid", "prelu_kernel": "prelu", "rrelu_with_noise": "rrelu"}
Record = Callable[[object], None]


@dataclass(frozen=True, order=True)
class ActivationCall:
    """One activation function that a module calls, by the module's name in the network and the function's in PyTorch.

    `is_gate` is true for functions into [0, 1]. `place` is the file and line of the call, or, where PyTorch's
    own code calls the function, of the call into it.
    """

    module: str
    function: str
    place: str = field(default="", compare=False, repr=False)

    @property
    def is_gate(self) -> bool:
        """True if networks multiply or average by this function."""
        return self.function in GATE_CALLS


def activation_calls(
    network: nn.Module, inputs: Inputs, *, outside: Collection[nn.Module] = ()
) -> tuple[ActivationCall, ...]:
    """Return the activation functions called in one pass in training mode, sorted, each caller and function once.

    Args:
        network: left as it was found: mode and buffers, and torch's generator on the CPU.
        inputs: a batch (n, ...) in any form of `aquasurf_ray.tasks.inputs`, n at least 2 where there is batch norm.
        outside: modules not to look into, nor into what they call.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> activation_calls(network, torch.zeros(2, 3))
    (ActivationCall(module='1', function='tanh'),)
    """
    ignored = {id(module) for module in outside}
    calls: set[ActivationCall] = set()
    entered: list[tuple[str, bool]] = [("", id(network) in ignored)]

    def record(function: object) -> None:
        name = called_name(function)
        name = ALIASES.get(name, name)
        caller, is_ignored = entered[-1]
        if not is_ignored and (name in ACTIVATION_CALLS or name in GATE_CALLS):
            calls.add(ActivationCall(caller, name, _place()))

    with ExitStack() as stack:
        for name, module in network.named_modules():
            stack.enter_context(_followed(module, name, id(module) in ignored, entered))
        stack.enter_context(_left_as_found(network))
        stack.enter_context(_Functions(record))
        stack.enter_context(_Operators(record))
        call_network(network, inputs)
    return tuple(sorted(calls))


def _place() -> str:
    """Return file and line of the innermost call outside of PyTorch, relative to the working folder if inside."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((TORCH, __file__)):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{frame.f_lineno}"


class _Functions(TorchFunctionMode):
    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.record(func)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, record: Record) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.record(func.overloadpacket)
        return func(*args, **(kwargs or {}))


@contextmanager
def _followed(module: nn.Module, name: str, ignored: bool, entered: list[tuple[str, bool]]) -> Iterator[None]:
    """Maintain the innermost running module on top of `entered`."""

    def enter(*_: object) -> None:
        entered.append((name, ignored or entered[-1][1]))

    def leave(*_: object) -> None:
        entered.pop()

    with module.register_forward_pre_hook(enter), module.register_forward_hook(leave):
        yield


@contextmanager
def _left_as_found(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.train()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)
