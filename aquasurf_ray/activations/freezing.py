"""Functions with what a training learned: learned parameters become constants, or begin with the learned values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aquasurf_ray.activations.errors import ActivationError, ExpressionError
from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.identity import parameter_identities
from aquasurf_ray.activations.roles import Function, RoleFunctions, function_of, parse_function


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
