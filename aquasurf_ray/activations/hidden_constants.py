"""Constants that act only where the sample has no point, such as the 6 of min(relu(x),6).

The sample of `identity` ends at 3.6, so on it relu and relu6 are the same, while a network with larger signals tells
them apart. A constant is hidden if moving it changes nothing on the sample but changes the tail: 24 points from -100
to 100. The identity of a function with hidden constants has its values on the tail, too. Other functions keep the
identity that they share with their twins without constants: mul(2,x) and add(x,x) are one function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.expression import Expression

_DISTANCES = (4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0, 14.0, 30.0, 100.0)
TAIL = np.array([*(-distance for distance in _DISTANCES), *_DISTANCES])
_FACTOR, _SUMMAND = 1.0625, 0.03125  # the summand moves a zero


def with_moved_constants(expression: Expression) -> list[Expression]:
    """Return the expression once for each of its constants and each initial value of a learned parameter, with this
    number moved by a few percent; a number that cannot be moved, because a result would not be finite, is left out.

    >>> from aquasurf_ray.activations import parse
    >>> [str(moved) for moved in with_moved_constants(parse("mul(0.5,min(x,6))"))]
    ['mul(0.5625,min(x,6))', 'mul(0.5,min(x,6.40625))']
    """
    if not expression.has_numbers:
        return []
    expression = expression.labelled() if expression.parameters else expression
    moved = list(_with_moved_numbers(expression))
    for parameter in expression.parameters:  # by its label, because one parameter may stand in several places
        new = Expression(learned=parameter._replace(initial=_moved(parameter.initial)))
        with suppress(ExpressionError):
            moved.append(_with_parameter(expression, parameter.text, new))
    return moved


def _with_moved_numbers(node: Expression) -> Iterator[Expression]:
    if node.value is not None:
        yield Expression(value=_moved(node.value))
    for i, argument in enumerate(node.arguments):
        if argument.has_numbers:
            for new in _with_moved_numbers(argument):
                with suppress(ExpressionError):
                    yield Expression(node.operator, (*node.arguments[:i], new, *node.arguments[i + 1 :]))


def _with_parameter(node: Expression, text: str, new: Expression) -> Expression:
    if node.operator is None:
        return new if node.text == text else node
    return Expression(node.operator, tuple(_with_parameter(each, text, new) for each in node.arguments))


def _moved(number: float) -> float:
    return number * _FACTOR + (_SUMMAND if number >= 0 else -_SUMMAND)
