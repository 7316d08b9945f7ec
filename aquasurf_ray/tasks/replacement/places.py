"""The places of a network that hold an activation, and the choice among them.

A place is a module, an attribute that is a function, or a block in `REWRITTEN`, whose code calls the function and is
rewritten to call a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import import_module

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.replacement.activation_kinds import (
    ACTIVATION_CALLS,
    ACTIVATIONS,
    GATE_CALLS,
    called_name,
    is_function,
    is_gated_feed_forward,
    is_head,
    is_of,
    is_own_activation,
    is_torchs_layer,
    reason_to_keep,
)

Only = type[nn.Module] | str | Sequence[type[nn.Module] | str] | None


REWRITTEN = {
    ("timm.models.mobilevit", "LinearSelfAttention"): "aquasurf_ray.tasks.networks.mobilevitv2:rewrite_attention"
}


@dataclass(frozen=True)
class Place:
    """The place of an activation; `put` sets a new one there. Places with the same `key` share one.

    `reason` is why it stays unless `only` names it; `function` is the attribute that is a function.
    """

    name: str
    key: tuple[int, str]
    put: Callable[[nn.Module], None]
    module: nn.Module | None = None
    reason: str | None = None
    function: Callable[[Tensor], Tensor] | None = None

    @property
    def own(self) -> Callable[[Tensor], Tensor] | None:
        """The activation that the network has there; None for a block that is rewritten."""
        return self.function if self.module is None else self.module


class Selection:
    """`only=`, taken apart: types and name patterns. Where both are given, both must fit."""

    def __init__(self, only: Only) -> None:
        entries = list(only) if isinstance(only, list | tuple) else [only]
        if only is None:
            entries = []
        elif not entries:
            raise TaskError("only= is empty; leave it out to replace all activations")
        for entry in entries:
            if not isinstance(entry, str) and not (isinstance(entry, type) and issubclass(entry, nn.Module)):
                raise TaskError(f"only= takes module types and name patterns, got {entry!r}")
        self.types = [e for e in entries if isinstance(e, type)]
        self.patterns = [e for e in entries if isinstance(e, str)]
        self.given = bool(entries)
        self.unused: list[type[nn.Module] | str] = [*self.types, *self.patterns]

    def reason_against(self, place: Place) -> str | None:
        """Return why the place is not replaced, or None.

        Gates, and activations of poolers and heads, are replaced only if their type or their full name is given.
        """
        types = [t for t in self.types if isinstance(place.module, t)]
        patterns = [p for p in self.patterns if fnmatchcase(place.name, p)]
        if (self.types and not types) or (self.patterns and not patterns):
            return place.reason or "not selected by only="
        if place.reason and not types and place.name not in patterns:
            return place.reason
        self.unused = [entry for entry in self.unused if entry not in types and entry not in patterns]
        return None


def places_of(parent: nn.Module, selection: Selection, prefix: str = "") -> Iterator[Place]:
    """Yield all replaceable places below a module, in the order of `named_modules`, but none inside another.

    Raises:
        TaskError: a module is scripted; a layer of PyTorch's own was named.
    """
    scripted = next((name for name, m in parent.named_modules() if isinstance(m, torch.jit.ScriptModule)), None)
    if scripted is not None:
        which = f"'{prefix}{scripted}'" if scripted or prefix else "the model"
        raise TaskError(
            f"{which} is scripted by torch.jit, so its activations cannot be replaced; give the eager model"
        )
    for attribute, value in vars(parent).items():
        if is_function(value, ACTIVATION_CALLS | GATE_CALLS):
            is_gate = is_function(value, GATE_CALLS) and not is_gated_feed_forward(parent)
            reason = f"gate: {called_name(value)}" if is_gate else None
            yield Place(
                f"{prefix}{attribute}", (id(parent), attribute), _putter(parent, attribute), None, reason, value
            )
    # Not `named_children`, which leaves out the second place of a module that is used twice.
    for attribute, child in parent._modules.items():
        name = f"{prefix}{attribute}"
        if child is not None and _is_whole(child, name, selection):
            reason = reason_to_keep(child, attribute, parent)
            yield Place(name, (id(child), ""), _putter(parent, attribute), child, reason)
        elif child is not None and is_head(child):
            for place in places_of(child, selection, f"{name}."):
                yield replace(place, reason=place.reason or f"in the {type(child).__name__}")
        elif child is not None:
            yield from places_of(child, selection, f"{name}.")
    rewrite = REWRITTEN.get((type(parent).__module__, type(parent).__name__))
    if rewrite:
        yield Place(f"{prefix}activation", (id(parent), "call"), _rewriter(rewrite, parent))


def _is_whole(module: nn.Module, name: str, selection: Selection) -> bool:
    """Return whether the module is an activation, looks like one, or was named as one by the caller.

    Raises:
        TaskError: a layer of PyTorch's own was named.
    """
    if name in selection.patterns or any(isinstance(module, t) for t in selection.types):
        if is_torchs_layer(module):
            raise TaskError(f"only= names '{name}', a {type(module).__name__}, which is a layer and no activation")
        return True
    return is_of(module, ACTIVATIONS) or reason_to_keep(module, "", module) is not None or is_own_activation(module)


def _putter(parent: nn.Module, attribute: str) -> Callable[[nn.Module], None]:
    def put(new: nn.Module) -> None:
        setattr(parent, attribute, new)
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # its fused form for inference knows these two only

    return put


def _rewriter(path: str, block: nn.Module) -> Callable[[nn.Module], None]:
    module, _, function = path.partition(":")

    def put(new: nn.Module) -> None:
        getattr(import_module(module), function)(block, new)

    return put
