"""Puts the searched function in the place of activations that a network's own code calls, such as `F.relu(x)`.

The owner of a call is the innermost module that runs at that moment. It gets a child for each function that it calls
(`called_relu`), which all of its calls of this function share, and its class becomes a subclass of the same name whose
`forward` runs under a `TorchFunctionMode`: the mode hands the calls of this owner to the child, and all others on.

A mode, and not a graph traced by torch.fx, because the code still runs: branches on `self.training`, loops, caches and
asserts stay what they are, where a trace would freeze them as they were in one pass. A mode of operators
(`TorchDispatchMode`) sits below autograd, where the searched function could not be differentiated. So code that does
not call PyTorch from Python, such as scripted functions, keeps its activations, and so does code that runs outside of
its owner's `forward`, such as a function that `torch.utils.checkpoint` runs again in the backward pass.
The first would be seen again in a pass after the replacement; the second is seen in a backward pass, and left as it is,
since its forward and backward pass would differ. `replace_activations` names both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aquasurf_ray.tasks.replacement.called_activations import ActivationCall, CalledFunction, function_name
from aquasurf_ray.tasks.replacement.in_place import written

PREFIX = "called_"
NO_MAPS = frozenset({"glu", "scaled_dot_product_attention"})
"""Gates in whose place no function of one number fits."""
MODULE_CALL = nn.Module._call_impl.__code__  # every call of a module passes through this frame, whose `self` it is


@dataclass(frozen=True)
class CallSite:
    """The calls of one function in one module, by names. `own` has the function with the settings of each call, as
    often as one pass of the module calls it, and `after` how many of the replaced modules ran before.

    `reason` is why the calls stay unless `only` names them, and `places` are their files and lines."""

    module: str
    function: str
    reason: str | None = field(default=None, compare=False, repr=False)
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)
    own: tuple[CalledFunction, ...] = field(default=(), compare=False, repr=False)
    after: int = field(default=0, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name that the new module has in the network."""
        return f"{self.module}.{PREFIX}{self.function}".lstrip(".")

    @property
    def only_own(self) -> CalledFunction | None:
        """The function with its settings; None if they differ from call to call, or are tensors of one model."""
        differ = len({repr(each) for each in self.own}) != 1
        return None if differ or self.own[0].has_tensors else self.own[0]


def call_sites(calls: Sequence[ActivationCall]) -> list[CallSite]:
    """Return the sites of the calls that can be replaced: those from Python that no backward pass repeats outside of
    their module, without parts of an activation that is written out. Gates have a reason to stay."""
    sites: dict[CallSite, CallSite] = {}
    for call in calls:
        if call.in_python and not call.repeated and not call.is_part and call.function not in NO_MAPS:
            new = CallSite(
                call.module, call.function, f"gate: {call.function}" if call.stays else None, after=call.after
            )
            site = sites.get(new, new)
            own = (call.own,) * call.count if call.own else ()
            places = tuple(dict.fromkeys((*site.places, *call.places)))
            # One module takes all calls of the function, so one gate among them keeps them all.
            sites[new] = replace(site, own=(*site.own, *own), places=places, reason=site.reason or new.reason)
    return list(sites.values())


def replace_calls(model: nn.Module, sites: Sequence[CallSite], make: Callable[[], nn.Module]) -> list[nn.Module]:
    """Replace, in place, the activations of these sites, each by one new module, and return the new modules."""
    new = []
    for site in sites:
        owner = model.get_submodule(site.module)
        new.append(make().train(owner.training))
        child = f"{PREFIX}{site.function}"
        owner.add_module(child, new[-1])
        owner.__dict__["_replaced_calls"] = {**owner.__dict__.get("_replaced_calls", {}), site.function: child}
        if not isinstance(owner, ReplacedCalls):
            owner.__class__ = _with_replaced_calls(type(owner))
    return new


class ReplacedCalls(nn.Module):
    """The first base of a module whose code calls activations that are replaced. `_replaced_calls` has the name of the
    child by the name of the function."""

    _replaced_calls: Mapping[str, str]

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return _new_instance, (type(self).__mro__[2],), object.__getstate__(self)


def _with_replaced_calls(base: Any) -> Any:
    """Return the subclass of a module's class: of the same name, and with the same signature of `forward`.

    A class has only one, so that copies of a module have the class of the original.
    """
    known = base.__dict__.get("_with_replaced_calls")
    if known is not None:
        return known

    @wraps(base.forward)
    def forward(self: Any, *inputs: Any, **named: Any) -> Any:
        with _TakenCalls(self):
            return base.forward(self, *inputs, **named)

    names = {
        "forward": forward,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    base._with_replaced_calls = type(base.__name__, (ReplacedCalls, base), names)
    return base._with_replaced_calls


def _new_instance(base: Any) -> Any:
    kind = _with_replaced_calls(base)
    return kind.__new__(kind)


class _TakenCalls(TorchFunctionMode):
    """Takes the calls of one module's own code; those of the modules inside it are handed on."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner = owner
        self.children: Mapping[str, str] = owner.__dict__["_replaced_calls"]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        child = self.children.get(function_name(func))
        if child is None or _running(sys._getframe(1)) is not self.owner:
            return func(*args, **(kwargs or {}))
        return _called(getattr(self.owner, child), func, args, kwargs or {})


def _running(frame: FrameType | None) -> nn.Module | None:
    """Return the innermost module that runs, from the frames of the calls."""
    while frame is not None:
        if frame.f_code is MODULE_CALL or frame.f_code is FORWARD:
            module: nn.Module = frame.f_locals["self"]
            return module
        frame = frame.f_back
    return None


FORWARD = _with_replaced_calls(nn.Identity).forward.__code__


def _called(activation: nn.Module, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the activation of the call's input. A call in place writes it there."""
    x: Tensor = args[0] if args else kwargs["input"]
    in_place = str(getattr(func, "__name__", "")).endswith("_") or kwargs.get("inplace") or _inplace_of(func, args)
    out = kwargs.get("out")
    if in_place:
        return written(x, activation)
    values: Tensor = activation(x)
    return values if out is None else out.copy_(values)


def _inplace_of(func: Any, args: tuple[Any, ...]) -> bool:
    """Return the value of `inplace`, the last parameter of PyTorch's functions, where it is given by position."""
    code = getattr(func, "__code__", None)
    if code is None:
        return False
    names = code.co_varnames[: code.co_argcount]
    return "inplace" in names and len(args) > names.index("inplace") and bool(args[names.index("inplace")])
