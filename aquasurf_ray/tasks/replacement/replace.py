"""Replace the activations of an existing network in place, and report which were replaced and which stay.

Activations are in three places: modules (`nn.ReLU`, also inside timm's norm-and-activation layers), attributes that are
functions (`nn.TransformerEncoderLayer.activation`), and calls in the middle of a block's own code. The first two are
replaced where they are found. The third kind is found by running the network, and `replaced_calls` takes the place of
the calls. Those that it cannot take are an error, because a network that keeps half of its activations is not the
requested one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from operator import itemgetter

from torch import Tensor, nn

from aquasurf_ray.tasks.errors import ModelFails, TaskError
from aquasurf_ray.tasks.inputs import Inputs, form_of
from aquasurf_ray.tasks.replacement.activation_kinds import called_name, is_head, is_torchs_layer
from aquasurf_ray.tasks.replacement.called_activations import ActivationCall, activation_calls
from aquasurf_ray.tasks.replacement.in_place import InPlace, Own, read_again, writes
from aquasurf_ray.tasks.replacement.places import Only, Place, Selection, places_of
from aquasurf_ray.tasks.replacement.replaced_calls import CallSite, call_sites, replace_calls
from aquasurf_ray.tasks.task import ActivationFactory

NAMED = 5
"""The number of names that a message lists before it counts the rest."""


@dataclass(frozen=True)
class Kept:
    """A module or call that could pass for an activation and was left alone, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Replacement:
    """The activations of a network: the names of those that were replaced, and those that stay, with the reason.

    `calls` are those of the replaced ones that the network's own code calls, and `written` the names of those whose
    values go into their input as well, because the network reads it again (`in_place`).
    """

    replaced: tuple[str, ...]
    kept: tuple[Kept, ...]
    calls: tuple[CallSite, ...] = field(default=(), repr=False)
    written: tuple[str, ...] = field(default=(), repr=False)


def replace_activations(
    model: nn.Module, activation: ActivationFactory | str, only: Only = None, *, inputs: Inputs | None = None
) -> Replacement:
    """Replace the activations of a model, in place. A module that is used in several places stays a single module.

    Args:
        model: any network; its weights stay as they are.
        activation: makes one new activation module at each call; or an expression such as `"mul(sigmoid(x),elu(x))"`.
        only: the activations to replace: a type, a pattern of names (`"features.*"`, as in `fnmatch`), or several.
            Where both types and patterns are given, both must fit. By default all but gates (sigmoids, softmaxes) and
            those in poolers and heads of transformers' models; one of these, or a module of another type than the
            known ones, is replaced where its type or its full name is given.
        inputs: a batch to run the network on, to find the activations that its code calls itself. The function that
            replaces the calls of `F.relu` in the module `block` has the name `block.called_relu`. It also shows which
            modules with `inplace=True` need to write into their input; without it, all of their successors do.

    Raises:
        TaskError: nothing matches, or something in `only` matches nothing: the model is as it was. Or the run finds an
            activation that cannot be replaced; where `only` is given, that is listed as kept instead.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1))
    >>> replace_activations(model, nn.Tanh)
    Replacement(replaced=('1',), kept=(Kept(name='3', reason='gate: Sigmoid'),))
    """
    make, selection = factory_of(activation), Selection(only)
    if inputs is None:
        return replace_known(model, make, only)
    chosen, _ = _chosen(model, selection)
    if chosen and selection.unused:  # they may name calls: a copy shows that before the model is changed
        replace_found(deepcopy(model), nn.Identity, only, inputs)
    return replace_found(model, make, only, inputs)


def replace_known(
    model: nn.Module, make: ActivationFactory, only: Only = None, known: Replacement | None = None
) -> Replacement:
    """Replace the activations that are found without running the model, and the calls that an earlier pass found.

    Args:
        known: the report of that pass, on a model that was made alike.

    Raises:
        TaskError: as `replace_activations`.
    """
    selection = Selection(only)
    chosen, kept = _chosen(model, selection)
    calls = known.calls if known is not None else ()
    if not calls and (not chosen or selection.unused):
        raise TaskError(_nothing_matched(model, selection, kept))
    written = _writing(chosen) if known is None else known.written
    _put(chosen, make, model.training, written)
    replace_calls(model, calls, make)
    return Replacement((*(place.name for place in chosen), *(site.name for site in calls)), kept, calls, tuple(written))


def replace_found(
    model: nn.Module, make: ActivationFactory, only: Only, inputs: Inputs, *, strict: bool = True
) -> Replacement:
    """Replace all activations, including those that one pass finds in the model's own code.

    Args:
        strict: refuse a model with a call that cannot be replaced, unless `only` is given; else it is listed as kept.

    Raises:
        ModelFails: the model fails on the inputs.
        TaskError: as `replace_activations`.
    """
    selection = Selection(only)
    chosen, kept = _chosen(model, selection)
    written = _written(model, inputs, chosen)
    new = _put(chosen, make, model.training, written)
    report = Replacement(tuple(place.name for place in chosen), kept, written=tuple(written))
    calls = _replaceable(model, inputs, report, new)
    sites = [site for site in call_sites(calls) if _is_selected(site, selection)]
    if not (chosen or sites) or selection.unused:
        raise TaskError(_nothing_matched(model, selection, kept, calls))
    new += replace_calls(model, sites, make)
    report = replace(report, replaced=(*report.replaced, *(site.name for site in sites)), calls=tuple(sites))
    return _with_remaining(model, inputs, report, new, may_stay=selection.given or not strict)


def put_back(model: nn.Module, only: Only, known: Replacement, names: Collection[str] | None = None) -> dict[str, str]:
    """Put the model's own activations where `replace_known` would put the searched function, and return their names,
    each with a description of the activation.

    Blocks that are rewritten as a whole stay as they are, and so do calls whose settings differ or are tensors.

    Args:
        names: those to be put; by default all.
    """
    chosen, _ = _chosen(model, Selection(only))
    found: dict[str, str] = {}
    for place in chosen:
        if place.own is not None and (names is None or place.name in names):
            own = place.own
            _put([place], lambda own=own: Own(own), model.training, known.written)  # type: ignore[misc]
            found[place.name] = type(own).__name__ if isinstance(own, nn.Module) else called_name(own)
    for site in known.calls:
        if site.only_own is not None and (names is None or site.name in names):
            replace_calls(model, [site], lambda own=site.only_own: Own(own))  # type: ignore[misc]
            found[site.name] = site.function
    return found


def activations_of(
    model: nn.Module, only: Only = None, calls: Sequence[CallSite] = ()
) -> list[nn.Module | Callable[[Tensor], Tensor]]:
    """Return what `replace_known` would replace: modules, and functions where a block has or calls these. A call comes
    after the modules that run before it."""
    chosen, _ = _chosen(model, Selection(only))
    keys = list(dict.fromkeys(place.key for place in chosen))
    found: list[tuple[tuple[int, int], nn.Module | Callable[[Tensor], Tensor] | None]] = [
        ((keys.index(place.key), 1), place.own) for place in chosen
    ]
    found += [((site.after, 0), own) for site in calls for own in site.own]
    return [each for _, each in sorted(found, key=itemgetter(0)) if each is not None]


def factory_of(activation: ActivationFactory | str) -> ActivationFactory:
    """Return the factory of an activation that may be given as text."""
    if not isinstance(activation, str):
        return activation
    from aquasurf_ray.activations import Activation

    expression = Activation(activation).expression
    return lambda: Activation(expression)


def _chosen(model: nn.Module, selection: Selection) -> tuple[list[Place], tuple[Kept, ...]]:
    places = [(place, selection.reason_against(place)) for place in places_of(model, selection)]
    kept = tuple(Kept(place.name, reason) for place, reason in places if reason is not None)
    return [place for place, reason in places if reason is None], kept


def _put(chosen: Sequence[Place], make: ActivationFactory, training: bool, written: Collection[str]) -> list[nn.Module]:
    """Put new modules into the places, and return them; a module that is in several places has one successor.

    Args:
        written: the names of the places where they write into their input.
    """
    made: dict[tuple[int, str], nn.Module] = {}
    put: dict[tuple[int, str], nn.Module] = {}
    for place in chosen:
        if place.key not in made:
            made[place.key] = put[place.key] = make().train(training)
            if place.name in written:
                put[place.key] = InPlace(made[place.key]).train(training)
        place.put(put[place.key])
    return list(made.values())


def _writing(chosen: Sequence[Place]) -> list[str]:
    """Return the names of the places whose activation writes into its input."""
    return [place.name for place in chosen if place.own is not None and writes(place.own)]


def _written(model: nn.Module, inputs: Inputs, chosen: Sequence[Place]) -> list[str]:
    """Return the names of those whose input is read again; functions that are attributes of a block count as such.

    Raises:
        ModelFails: the model fails on the inputs.
    """
    writing = _writing(chosen)
    modules = {id(p.module): p.module for p in chosen if p.name in writing and p.module is not None}
    if not modules:
        return writing
    with _running(model, inputs):
        needed = [id(module) for module in read_again(model, inputs, list(modules.values()))]
    return [p.name for p in chosen if p.name in writing and (p.module is None or id(p.module) in needed)]


@contextmanager
def _running(model: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Run the model's own code: whatever it raises is a reason to refuse it.

    Raises:
        ModelFails: it has raised.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        form = f"shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else f"the form {form_of(inputs)}"
        raise ModelFails(f"{type(model).__name__} fails on inputs of {form}: {reason}") from error


def _replaceable(
    model: nn.Module, inputs: Inputs, report: Replacement, new: Sequence[nn.Module]
) -> list[ActivationCall]:
    """Return the calls among which `call_sites` finds those that can be replaced, without those of poolers and heads.

    Raises:
        ModelFails: the model fails on the inputs.
    """
    with _running(model, inputs):
        calls = calls_beyond(model, inputs, report, new)
        if call_sites(calls):  # the backward pass shows which of them it repeats
            calls = calls_beyond(model, inputs, report, new, backward=True)
    return without_heads(model, calls)


def _is_selected(site: CallSite, selection: Selection) -> bool:
    place = Place(site.name, (0, site.name), lambda new: None, reason=site.reason)
    return selection.reason_against(place) is None


def _with_remaining(
    model: nn.Module, inputs: Inputs, report: Replacement, new: Sequence[nn.Module], *, may_stay: bool
) -> Replacement:
    """Return the report with the calls that remain as kept.

    Raises:
        TaskError: an activation remains, and none may.
    """
    calls = calls_beyond(model, inputs, report, new)
    stray = calls_to_replace(model, calls)
    if stray and not may_stay:
        raise TaskError(
            f"{type(model).__name__} calls activations in its own code that cannot be replaced there: "
            f"{few([*map(str, stray)])}; make them modules, or name in only= what is to be replaced"
        )
    found = dict.fromkeys(
        Kept(call.module, f"{_why_it_stays(call)}{call.function}, called by its own code") for call in calls
    )
    return replace(report, kept=(*report.kept, *found))


def _why_it_stays(call: ActivationCall) -> str:
    return ("part of an activation: " if call.is_part else "gate: ") if call.stays else ""


def calls_beyond(
    model: nn.Module, inputs: Inputs, report: Replacement, new: Sequence[nn.Module], *, backward: bool = False
) -> list[ActivationCall]:
    """Return the activations that are called outside of the new modules and of modules that stay."""
    return without_kept(activation_calls(model, inputs, outside=new, backward=backward), report)


def without_kept(calls: Sequence[ActivationCall], report: Replacement) -> list[ActivationCall]:
    """Return the calls that are not in modules that stay."""
    known = [kept.name for kept in report.kept]
    return [call for call in calls if not any(_is_inside(call.module, name) for name in known)]


def calls_to_replace(model: nn.Module, calls: Sequence[ActivationCall]) -> list[ActivationCall]:
    """Return the calls that should have been replaced: gates, parts of activations that are written out, and calls in
    poolers and heads, stay."""
    return [call for call in without_heads(model, calls) if not call.stays]


def without_heads(model: nn.Module, calls: Sequence[ActivationCall]) -> list[ActivationCall]:
    """Return the calls that are not in poolers and heads of transformers' models."""
    heads = [name for name, module in model.named_modules() if is_head(module)]
    return [call for call in calls if not any(_is_inside(call.module, name) for name in heads)]


def _is_inside(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def _nothing_matched(
    model: nn.Module, selection: Selection, kept: Sequence[Kept], calls: Sequence[ActivationCall] = ()
) -> str:
    asked = ", ".join(e if isinstance(e, str) else e.__name__ for e in selection.unused)
    what = f"only= matches nothing with {asked}" if selection.unused else "no activation found"
    names = [f"'{each.name}' ({each.reason})" for each in kept]
    left = f"; left alone: {few(names)}" if kept else ""
    in_code = _in_code(calls)
    return f"{what} in {type(model).__name__}{left}{in_code}{_seen(model, hints_at_code=not in_code)}"


def _in_code(calls: Sequence[ActivationCall]) -> str:
    """Return the end of a message: which functions the model's code calls, where, and how to replace each."""
    says, sites = [], call_sites(calls)
    if free := [f"'{site.name}'{_at(site.places)}" for site in sites if site.reason is None]:
        says.append(f"; its code calls {few(free)}")
    if gates := [f"'{site.name}'{_at(site.places)}" for site in sites if site.reason is not None]:
        says.append(f"; gates in its code, which stay unless only= names them: {few(gates)}")
    if parts := [f"{call.function}{_at(call.hidden or call.places)}" for call in calls if call.is_part]:
        says.append(f"; activations that its code writes out: {few(parts)}: make each a module")
    return "".join(says)


def _at(places: Sequence[str]) -> str:
    known = [place for place in places if place]
    return f" ({few(known)})" if known else ""


def _seen(model: nn.Module, *, hints_at_code: bool) -> str:
    """Return the end of a message: the kinds of innermost modules, and how to name one as an activation.

    Args:
        hints_at_code: say what to do about an activation that the code writes out.
    """
    inner = [module for name, module in model.named_modules() if name and not any(module.children())]
    if not inner:
        return ""
    has_weights = {type(m).__name__: any(True for _ in m.parameters()) for m in inner}
    of_torch = {type(m).__name__: is_torchs_layer(m) for m in inner}
    counts = Counter(type(m).__name__ for m in inner)
    kinds = sorted(counts, key=lambda kind: (of_torch[kind], has_weights[kind], -counts[kind]))
    # A class without weights, or of somebody's own with weights, may be an activation that does not look like one.
    named = f"name one in only= by its class or its name, such as only={kinds[0]}"
    written = "one that a forward writes out, such as x * torch.sigmoid(x), is not found: make it a module"
    how = [] if of_torch[kinds[0]] else [named]
    how += [written] if hints_at_code and has_weights[kinds[0]] else []
    return "; ".join([f"; it has {few([f'{counts[kind]} {kind}' for kind in kinds])}", *how])


def few(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
