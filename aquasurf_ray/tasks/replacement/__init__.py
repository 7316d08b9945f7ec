"""Puts the searched activation function into an existing network, and reports which activations were replaced.

Activations are in three places: modules (`nn.ReLU`, also inside timm's norm-and-activation layers), attributes that are
functions (`nn.TransformerEncoderLayer.activation`), and calls in the middle of a block's own code. The first two are
replaced where they are found. Of the third kind only the blocks in `REWRITTEN` can be; others are found by running the
network, and are an error, because a network that keeps half of its activations is not the requested one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.inputs import Inputs, tensors_of
from aquasurf_ray.tasks.replacement.activation_kinds import (
    ACTIVATION_CALLS,
    ACTIVATIONS,
    GATE_CALLS,
    called_name,
    is_function,
    is_of,
    reason_to_keep,
)
from aquasurf_ray.tasks.replacement.called_activations import ActivationCall, activation_calls
from aquasurf_ray.tasks.task import ActivationFactory

Only = type[nn.Module] | str | Sequence[type[nn.Module] | str] | None

REWRITTEN = {
    ("timm.models.mobilevit", "LinearSelfAttention"): "aquasurf_ray.tasks.networks.mobilevitv2:rewrite_attention"
}


@dataclass(frozen=True)
class Kept:
    """A module or call that could pass for an activation and was left alone, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Replacement:
    """The activations of a network: the names of those that were replaced, and those that stay, with the reason."""

    replaced: tuple[str, ...]
    kept: tuple[Kept, ...]


@dataclass(frozen=True)
class _Place:
    """The place of an activation; `put` sets a new one there. Places with the same `key` share one.

    `reason` is why it stays unless `only` names it.
    """

    name: str
    key: tuple[int, str]
    put: Callable[[nn.Module], None]
    module: nn.Module | None = None
    reason: str | None = None


class _Selection:
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

    def reason_against(self, place: _Place) -> str | None:
        """Return why the place is not replaced, or None. A gate is replaced only if its type or full name is given."""
        types = [t for t in self.types if isinstance(place.module, t)]
        patterns = [p for p in self.patterns if fnmatchcase(place.name, p)]
        if (self.types and not types) or (self.patterns and not patterns):
            return place.reason or "not selected by only="
        if place.reason and not types and place.name not in patterns:
            return place.reason
        self.unused = [entry for entry in self.unused if entry not in types and entry not in patterns]
        return None


def replace_activations(
    model: nn.Module, activation: ActivationFactory | str, only: Only = None, *, inputs: Tensor | None = None
) -> Replacement:
    """Replace the activations of a model, in place. A module that is used in several places stays a single module.

    Args:
        model: any network; its weights stay as they are.
        activation: makes one new activation module at each call; or an expression such as `"mul(sigmoid(x),elu(x))"`.
        only: which ones: a type, a pattern of names (`"features.*"`, as `fnmatch` has them), or several of either.
            Where both types and patterns are given, both must fit. By default all but gates (sigmoids, softmaxes, gated
            linear units); a gate, or a module of another type than the known ones, is replaced where its type or its
            full name is given.
        inputs: a batch to run the network on, to find the activations that its code calls itself.

    Raises:
        TaskError: nothing matches, or something in `only` matches nothing: the model is as it was. Or the run finds an
            activation that cannot be replaced; where `only` is given, that is listed as kept instead.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1))
    >>> replace_activations(model, nn.Tanh)
    Replacement(replaced=('1',), kept=(Kept(name='3', reason='gate: Sigmoid'),))
    """
    make = _factory(activation)
    selection = _Selection(only)
    places = [(place, selection.reason_against(place)) for place in _places(model, selection)]
    chosen = [place for place, reason in places if reason is None]
    kept = tuple(Kept(place.name, reason) for place, reason in places if reason is not None)
    if not chosen or selection.unused:
        raise TaskError(_nothing_matched(model, selection, kept))
    new: dict[tuple[int, str], nn.Module] = {}
    for place in chosen:
        if place.key not in new:
            new[place.key] = make().train(model.training)
        place.put(new[place.key])
    report = Replacement(tuple(place.name for place in chosen), kept)
    return report if inputs is None else _with_calls(model, inputs, report, list(new.values()), selection.given)


@dataclass(frozen=True)
class ModelNetwork:
    """A `Task.network` from a function that returns a complete model with its own activations.

    Args:
        make: makes one untrained model at each call.
        only: as in `replace_activations`.
        example: the shape of one input, without the batch: the model is run once on zeros, in each process, to find
            activations that its code calls itself.

    >>> network = ModelNetwork(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), example=(3,))
    >>> network.replacement.replaced
    ('1',)
    >>> network(nn.Tanh)[1]
    Tanh()
    """

    make: Callable[[], nn.Module]
    only: Only = None
    example: tuple[int, ...] | None = None

    def __call__(self, activation: ActivationFactory) -> nn.Module:
        """Return a new network with this activation.

        Raises:
            TaskError: as `replace_activations`.
        """
        _ = self.replacement
        network = self.make()
        replace_activations(network, activation, self.only)
        return network

    @cached_property
    def replacement(self) -> Replacement:
        """Return which of the model's activations are replaced. torch's global generator is left as it is."""
        with torch.random.fork_rng(devices=[]):
            inputs = None if self.example is None else torch.zeros(2, *self.example)
            return replace_activations(self.make(), nn.Identity, self.only, inputs=inputs)

    def calls(self, inputs: Inputs) -> list[ActivationCall]:
        """Return the activations that the model's own code calls, where no replacement reaches them, found by running
        it on a batch. torch's global generator on the CPU is left as it is."""
        new: list[nn.Module] = []

        def make() -> nn.Module:
            new.append(nn.Identity())
            return new[-1]

        with torch.random.fork_rng(devices=[]):
            model = self.make()
            report = replace_activations(model, make, self.only)
            model.to(tensors_of(inputs)[0].device)
            return _calls_beyond(model, inputs, report, new)


def network_from(
    make: Callable[[], nn.Module], only: Only = None, *, example: tuple[int, ...] | None = None
) -> ModelNetwork:
    """Return a `Task.network` from a function without arguments that returns a model: see `ModelNetwork`."""
    return ModelNetwork(make, tuple(only) if isinstance(only, list) else only, example)


def _factory(activation: ActivationFactory | str) -> ActivationFactory:
    if not isinstance(activation, str):
        return activation
    from aquasurf_ray.activations import Activation

    expression = Activation(activation).expression
    return lambda: Activation(expression)


def _places(parent: nn.Module, selection: _Selection, prefix: str = "") -> Iterator[_Place]:
    """Yield all replaceable places below a module, in the order of `named_modules`, but none inside another."""
    for attribute, value in vars(parent).items():
        if is_function(value, ACTIVATION_CALLS | GATE_CALLS):
            reason = f"gate: {called_name(value)}" if is_function(value, GATE_CALLS) else None
            yield _Place(f"{prefix}{attribute}", (id(parent), attribute), _putter(parent, attribute), None, reason)
    for attribute, child in parent._modules.items():
        name = f"{prefix}{attribute}"
        if child is not None and _is_whole(child, name, selection):
            reason = reason_to_keep(child, attribute, parent)
            yield _Place(name, (id(child), ""), _putter(parent, attribute), child, reason)
        elif child is not None:
            yield from _places(child, selection, f"{name}.")
    rewrite = REWRITTEN.get((type(parent).__module__, type(parent).__name__))
    if rewrite:
        yield _Place(f"{prefix}activation", (id(parent), "call"), _rewriter(rewrite, parent))


def _is_whole(module: nn.Module, name: str, selection: _Selection) -> bool:
    """Return whether the module is an activation, looks like one, or was named as one by the caller."""
    named = name in selection.patterns or any(isinstance(module, t) for t in selection.types)
    return named or is_of(module, ACTIVATIONS) or reason_to_keep(module, "", module) is not None


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


def _with_calls(
    model: nn.Module, inputs: Tensor, report: Replacement, new: Sequence[nn.Module], may_stay: bool
) -> Replacement:
    """Return the report with the calls that one pass finds in addition.

    Raises:
        TaskError: the model fails; or an activation is called by its own code, and all were to be replaced.
    """
    try:
        calls = _calls_beyond(model, inputs, report, new)
    except Exception as error:  # the model's own code: whatever it raises is a reason to refuse it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"{type(model).__name__} fails on inputs of shape {tuple(inputs.shape)}: {reason}") from error
    stray = [f"{call.function} in '{call.module}' ({call.place})" for call in calls if not call.is_gate]
    if stray and not may_stay:
        raise TaskError(
            f"{type(model).__name__} calls activations in its own code, where nothing reaches them: {_some(stray)};"
            " make them modules, or name in only= what is to be replaced"
        )
    found = [
        Kept(call.module, f"{'gate: ' if call.is_gate else ''}{call.function}, called by its own code")
        for call in calls
    ]
    return replace(report, kept=(*report.kept, *found))


def _calls_beyond(
    model: nn.Module, inputs: Inputs, report: Replacement, new: Sequence[nn.Module]
) -> list[ActivationCall]:
    """Return the activations that are called outside of the new modules and of modules that stay."""
    known = [kept.name for kept in report.kept]
    called = activation_calls(model, inputs, outside=new)
    return [
        call for call in called if not any(call.module == name or call.module.startswith(f"{name}.") for name in known)
    ]


def _nothing_matched(model: nn.Module, selection: _Selection, kept: Sequence[Kept]) -> str:
    asked = ", ".join(e if isinstance(e, str) else e.__name__ for e in selection.unused)
    what = f"only= matches nothing with {asked}" if selection.unused else "no activation found"
    left = f"; left alone are {_some([f'{k.name} ({k.reason})' for k in kept])}" if kept else ""
    return f"{what} in {type(model).__name__}{left}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
