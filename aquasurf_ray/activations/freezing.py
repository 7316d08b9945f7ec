"""Functions with what a training learned: learned parameters become constants, or begin with the learned values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.grammar import Learned


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
