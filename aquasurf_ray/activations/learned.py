"""The learned parameters of a network's activations, which they are and their sizes, and functions with what a training
learned: the parameters become constants, or begin with the learned values.

A parameter of channels has no size until its module has seen an input, but optimisers, moving averages and processes
that train together need every parameter before the first step. So the network runs once (`sized`), and is left as it
was found. In that run the channels of an input are found by the layer whose output it is, or has the shape of: the last
dimension after a linear layer, the first one after the batch's after a convolution. Where no such layer ran before, the
rule of `Activation` decides. A network that knows better sets `channel_dim` of its activations itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from aquasurf_ray.activations.errors import ActivationError, ExpressionError
from aquasurf_ray.activations.expression import Expression, number_in
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.identity import parameter_identities
from aquasurf_ray.activations.module import PREFIX, Activation
from aquasurf_ray.activations.roles import Function, RoleFunctions, function_of, parse_function
from aquasurf_ray.network_state import modes_and_buffers_kept


class LearnedParameter(NamedTuple):
    """A learned parameter of one activation in a network: the module's name, its own, its leaf, and its tensor."""

    layer: str
    name: str
    leaf: Learned
    tensor: nn.Parameter


def learned_parameters(network: nn.Module) -> list[LearnedParameter]:
    """Return the learned parameters of all activations in a network, in its order; those of a shared module once.

    >>> network = nn.Sequential(nn.Linear(2, 2), Activation("mul(learn(0.5),x)"))
    >>> [(p.layer, p.name, p.tensor.item()) for p in learned_parameters(network)]
    [('1', 'a', 0.5)]
    """
    return [
        LearnedParameter(layer, name.removeprefix(PREFIX), leaf, getattr(module, name))
        for layer, module in network.named_modules()
        if isinstance(module, Activation)
        for name, leaf in module.learned.items()
    ]


def sized(network: nn.Module, run: Callable[[], Any]) -> nn.Module:
    """Return the network after giving all its learned parameters their sizes: `run` runs it once, on any batch.

    Mode, buffers and torch's generators are left as they were found. The parameters of an activation that the run does
    not reach get one channel and are not trained. Nothing runs if every parameter has its size.

    >>> network = nn.Sequential(nn.Conv1d(2, 3, 1), Activation("mul(learn_channel(0.5),x)"))
    >>> sized(network, lambda: network(torch.zeros(4, 2, 8)))[1].learned_a.shape
    torch.Size([3])
    """
    if not _unsized(network):
        return network
    with modes_and_buffers_kept(network), _layouts_noted(network), torch.no_grad():
        # In training mode, because some networks run auxiliary heads only there, and these have activations, too.
        network.train()
        run()
    for parameter in _unsized(network):
        with torch.no_grad():
            # Optimisers and state dicts need a size; no gradient will ever reach it.
            parameter.tensor.materialize((1,))  # type: ignore[attr-defined]
            parameter.tensor.fill_(number_in(parameter.tensor.dtype, parameter.leaf.initial)).requires_grad_(False)
    return network


def _unsized(network: nn.Module) -> list[LearnedParameter]:
    return [p for p in learned_parameters(network) if isinstance(p.tensor, UninitializedParameter)]


@contextmanager
def _layouts_noted(network: nn.Module) -> Iterator[None]:
    """Set the dimension of the channels of each activation by the last layer with an output of its input's shape."""
    latest: dict[torch.Size, int] = {}

    def after_layer(layer: nn.Module, _: Any, output: Tensor) -> None:
        # From the end for a convolution, because an input without a batch has one dimension less.
        latest[output.shape] = -1 if isinstance(layer, nn.Linear) else 1 - layer.weight.dim()  # type: ignore[operator]

    def before_activation(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Activation) and module.channel_dim is None and arguments:
            module.channel_dim = latest.get(arguments[0].shape)

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            handles.append(module.register_forward_hook(after_layer))
        elif isinstance(module, Activation):
            handles.append(module.register_forward_pre_hook(before_activation))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def frozen(expression: Expression, values: Mapping[str, float]) -> Expression:
    """Return the expression with constants in the place of its learned parameters, by their names.

    Constants have six significant digits, and what becomes constant is computed.

    Raises:
        ExpressionError: a parameter has no value, or a constant would not be finite.

    >>> from aquasurf_ray.activations import parse
    >>> frozen(parse("mul(x,sigmoid(mul(learn(1),x)))"), {"a": 1.25000001})
    parse('mul(x,sigmoid(mul(1.25,x)))')
    """
    return _replaced(expression.labelled(), lambda leaf: Expression(value=_six_digits(_value_of(leaf, values))))


def warm_started(expression: Expression, values: Mapping[str, float]) -> Expression:
    """Return the expression whose learned parameters begin with these values, by their names.

    Raises:
        ExpressionError: a parameter has no value.

    >>> from aquasurf_ray.activations import parse
    >>> warm_started(parse("mul(learn(1),x)"), {"a": 0.5})
    parse('mul(learn(0.5,a),x)')
    """

    def begun(leaf: Learned) -> Expression:
        return Expression(learned=leaf._replace(initial=_six_digits(_value_of(leaf, values))))

    return _replaced(expression.labelled(), begun)


def names_by_spelling(one: str, other: str) -> dict[str, str]:
    """Return the names that the learned parameters of a function have in one spelling of it, by those that they have in
    another one: `Store.merge` calls it with each function that two stores spell differently.

    None for functions that cannot be compared: two different ones, or one with an operator that is not registered here.
    Of a function per role, the names that hold in all roles; none if they differ from role to role.

    >>> names_by_spelling("add(mul(learn(2),tanh(x)),learn(1))", "add(learn(1),mul(tanh(x),learn(2)))")
    {'a': 'b', 'b': 'a'}
    """
    try:
        return _names(parse_function(one), parse_function(other))
    except ActivationError:
        return {}


def _names(one: Function, other: Function) -> dict[str, str]:
    if not (one.parameters or other.parameters):
        return {}
    if isinstance(one, RoleFunctions) or isinstance(other, RoleFunctions):
        roles = (one if isinstance(one, RoleFunctions) else other).roles  # type: ignore[union-attr]
        found = [_names(function_of(one, role), function_of(other, role)) for role in roles]
        together = {name: new for names in found for name, new in names.items()}
        return together if all(together[name] == names[name] for names in found for name in names) else {}
    ours, theirs = (dict(zip(each.parameter_names, parameter_identities(each), strict=True)) for each in (one, other))
    if sorted(ours.values()) != sorted(theirs.values()):
        return {}
    # Parameters with one identity, such as those of add(learn(0),learn(0)), are matched in the order of writing.
    pairs = zip(sorted(theirs, key=theirs.__getitem__), sorted(ours, key=ours.__getitem__), strict=True)
    return dict(sorted(pairs))


def _replaced(expression: Expression, new: Callable[[Learned], Expression]) -> Expression:
    if expression.learned is not None:
        return new(expression.learned)
    # A subtree without learned parameters is kept as the same object, since expressions are immutable.
    if not expression.parameters:
        return expression
    return Expression(expression.operator, tuple(_replaced(argument, new) for argument in expression.arguments))


def _value_of(leaf: Learned, values: Mapping[str, float]) -> float:
    if leaf.label not in values:
        known = ", ".join(values) or "none"
        raise ExpressionError(f"learned parameter {leaf.label!r} has no value; there are values of: {known}", 1)
    return values[leaf.label]


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")
