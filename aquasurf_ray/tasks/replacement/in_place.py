"""Activations that write into their input, such as `nn.ReLU(inplace=True)`, where the network reads that input again.

In `x = x + layer(relu(x))` such a module rectifies both terms, and in `relu(h); return out(h)` only the write counts.
The searched function must write there too. Everywhere else it need not, and does not: most networks set `inplace=True`
to save memory alone, and a function that needs its input in the backward pass would only copy twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aquasurf_ray.network_state import modes_and_buffers_kept
from aquasurf_ray.tasks.inputs import Inputs, call_network, map_tensors
from aquasurf_ray.tasks.outputs import output_of


class InPlace(nn.Module):
    """A function that writes its values into its input, as the module did whose place it has."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Write the function's values into `x` (...), and return it."""
        return written(x, self.function)


class Own(nn.Module):
    """An activation of the user's as a module that only returns values: what it gets stays as it is."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's values at `x` (...)."""
        return self.function(x.clone())


def written(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Write a function's values into its input, and return that. The function gets a copy, because its backward pass
    needs the input as it was."""
    return x.copy_(function(x.clone()))


def writes(function: Callable[[Tensor], Tensor]) -> bool:
    """Return whether an activation writes into its input.

    >>> writes(nn.ReLU(inplace=True)), writes(nn.ReLU()), writes(torch.relu_)
    (True, False, True)
    """
    x = torch.linspace(-6, 6, 24).reshape(2, 3, 4)
    before = x.clone()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            function(x)
    except Exception:  # the user's own code, called with a shape that it may not be made for
        return False
    return not torch.equal(x, before)


def read_again(model: nn.Module, inputs: Inputs, modules: Collection[nn.Module]) -> list[nn.Module]:
    """Return those of the modules whose input the model uses again after they have run, in training or evaluation.

    Args:
        model: left as it was found, as by `activation_calls`.
        modules: write into their inputs.
    """
    reads = _Reads()
    for training in (True, False):
        with modes_and_buffers_kept(model), torch.no_grad(), ExitStack() as stack:
            model.train(training)
            for module in modules:
                stack.enter_context(module.register_forward_hook(reads.after))
            with reads:
                returned = call_network(model, map_tensors(inputs, torch.clone))
            reads.note(output_of(returned))
        reads.inputs.clear()
    return [module for module in modules if id(module) in reads.found]


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which inputs of modules later operators get, also as views. What a module returns is a copy meanwhile, so
    that its use is no use of the input.

    Attributes:
        inputs: the modules by the memory of their inputs, which are kept, so that nothing else gets that memory.
        found: the ids of modules whose inputs were used again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs: dict[int, tuple[Tensor, set[int]]] = {}
        self.found: set[int] = set()

    def after(self, module: nn.Module, arguments: tuple[Any, ...], returned: Any) -> Any:
        """Watch a module's input from now on."""
        kept = returned.clone() if isinstance(returned, Tensor) else returned
        for each in arguments:
            if (memory := _memory_of(each)) is not None:
                self.inputs.setdefault(memory, (each, set()))[1].add(id(module))
        return kept

    def note(self, value: object) -> None:
        """Note a use of a tensor."""
        memory = _memory_of(value)
        if memory in self.inputs:
            self.found |= self.inputs[memory][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for each in tree_leaves((args, kwargs)):
            self.note(each)
        return func(*args, **(kwargs or {}))


def _memory_of(value: object) -> int | None:
    """Return the address of a tensor's memory, which its views share."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.numel() == 0:
        return None
    return value.untyped_storage().data_ptr()
