"""Replaces the activations of an existing network, in place, and reports which were replaced and which stay.

Activations are in three places: modules (`nn.ReLU`, also inside timm's norm-and-activation layers), attributes that are
functions (`nn.TransformerEncoderLayer.activation`), and calls in the middle of a block's own code. The first two are
replaced where they are found. Of the third kind only the blocks in `REWRITTEN` can be; others are found by running the
network, and are an error, because a network that keeps half of its activations is not the requested one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.inputs import Inputs, form_of
from aquasurf_ray.tasks.replacement.activation_kinds import is_head
from aquasurf_ray.tasks.replacement.called_activations import ActivationCall, activation_calls
from aquasurf_ray.tasks.replacement.places import Only, Selection, places_of
from aquasurf_ray.tasks.task import ActivationFactory

NAMED = 5
"""Names in a message, before the rest is counted."""


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


def replace_activations(
    model: nn.Module, activation: ActivationFactory | str, only: Only = None, *, inputs: Inputs | None = None
) -> Replacement:
    """Replace the activations of a model, in place. A module that is used in several places stays a single module.

    Args:
        model: any network; its weights stay as they are.
        activation: makes one new activation module at each call; or an expression such as `"mul(sigmoid(x),elu(x))"`.
        only: which ones: a type, a pattern of names (`"features.*"`, as `fnmatch` has them), or several of either.
            Where both types and patterns are given, both must fit. By default all but gates (sigmoids, softmaxes) and
            those in poolers and heads of transformers' models; one of these, or a module of another type than the
            known ones, is replaced where its type or its full name is given.
        inputs: a batch to run the network on, to find the activations that its code calls itself.

    Raises:
        TaskError: nothing matches, or something in `only` matches nothing: the model is as it was. Or the run finds an
            activation that cannot be replaced; where `only` is given, that is listed as kept instead.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1))
    >>> replace_activations(model, nn.Tanh)
    Replacement(replaced=('1',), kept=(Kept(name='3', reason='gate: Sigmoid'),))
    """
    make = _factory(activation)
    selection = Selection(only)
    places = [(place, selection.reason_against(place)) for place in places_of(model, selection)]
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


def _factory(activation: ActivationFactory | str) -> ActivationFactory:
    if not isinstance(activation, str):
        return activation
    from aquasurf_ray.activations import Activation

    expression = Activation(activation).expression
    return lambda: Activation(expression)


def _with_calls(
    model: nn.Module, inputs: Inputs, report: Replacement, new: Sequence[nn.Module], may_stay: bool
) -> Replacement:
    """Return the report with the calls that one pass finds in addition.

    Raises:
        TaskError: the model fails; or an activation is called by its own code, and all were to be replaced.
    """
    try:
        calls = calls_beyond(model, inputs, report, new)
    except Exception as error:  # the model's own code: whatever it raises is a reason to refuse it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        form = f"shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else f"the form {form_of(inputs)}"
        raise TaskError(f"{type(model).__name__} fails on inputs of {form}: {reason}") from error
    stray = stray_calls(model, calls)
    if stray and not may_stay:
        named = [f"{call.function} in '{call.module}' ({call.place})" for call in stray]
        raise TaskError(
            f"{type(model).__name__} calls activations in its own code, where nothing reaches them: {_some(named)};"
            " make them modules, or name in only= what is to be replaced"
        )
    found = [
        Kept(call.module, f"{'gate: ' if call.is_gate else ''}{call.function}, called by its own code")
        for call in calls
    ]
    return replace(report, kept=(*report.kept, *found))


def calls_beyond(
    model: nn.Module, inputs: Inputs, report: Replacement, new: Sequence[nn.Module]
) -> list[ActivationCall]:
    """Return the activations that are called outside of the new modules and of modules that stay."""
    known = [kept.name for kept in report.kept]
    called = activation_calls(model, inputs, outside=new)
    return [call for call in called if not any(_is_inside(call.module, name) for name in known)]


def stray_calls(model: nn.Module, calls: Sequence[ActivationCall]) -> list[ActivationCall]:
    """Return those of the calls that should have been replaced: neither gates nor in poolers and heads, which stay."""
    heads = [name for name, module in model.named_modules() if is_head(module)]
    return [call for call in calls if not call.is_gate and not any(_is_inside(call.module, name) for name in heads)]


def _is_inside(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def _nothing_matched(model: nn.Module, selection: Selection, kept: Sequence[Kept]) -> str:
    asked = ", ".join(e if isinstance(e, str) else e.__name__ for e in selection.unused)
    what = f"only= matches nothing with {asked}" if selection.unused else "no activation found"
    left = f"; left alone are {_some([f'{k.name} ({k.reason})' for k in kept])}" if kept else ""
    return f"{what} in {type(model).__name__}{left}{_seen(model)}"


def _seen(model: nn.Module) -> str:
    """Return the end of a message: the kinds of innermost modules, and how to name one as an activation.

    One without weights comes first, because it may be an activation of a class that is not known.
    """
    inner = {name: module for name, module in model.named_modules() if name and not any(module.children())}
    if not inner:
        return ""
    has_weights = {type(m).__name__: any(True for _ in m.parameters()) for m in inner.values()}
    counts = Counter(type(m).__name__ for m in inner.values())
    kinds = sorted(counts, key=lambda kind: (has_weights[kind], -counts[kind]))
    example = next(name for name, module in inner.items() if type(module).__name__ == kinds[0])
    seen = _some([f"{counts[kind]} {kind}" for kind in kinds])
    return f"; it has {seen}; name one in only= by its class or its name, such as only='{example}'"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
