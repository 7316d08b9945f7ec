"""The formulas of the zoo as patterns: which published function an expression is, by its structure and not its values.

A formula's x stands for any expression, the same one wherever x is written, and its constants for any numbers. So
`square(add(relu(tanh(x)),mul(0.1,min(tanh(x),0))))` has `leaky_relu(tanh(x),0.1)` in it. Names for people are found
this way (`rendering.py`), and the functions that PyTorch has as one kernel (`module.py`, `sources/`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.named_functions import ZOO, NamedFunction

_PLACES = (7001.0, 7002.0, 7003.0, 7004.0)  # stand for the constants of a formula, and are in none
_LEAST, _GREATEST = 2.0**-24, 65504.0  # of float16


class Match(NamedTuple):
    """A function of the zoo that an expression is, its argument and its constants."""

    function: NamedFunction
    argument: Expression
    constants: tuple[float, ...]


def matches(expression: Expression) -> Iterator[Match]:
    """Yield the functions of the zoo without learned parameters that an expression is, in the order of the table.

    >>> function, argument, constants = next(matches(parse("softshrink(exp(x),2)")))
    >>> function.name, str(argument), constants
    ('softshrink', 'exp(x)', (2.0,))
    """
    for function, formula in _formulas().get(expression.operator, ()):
        found = _Comparison()
        if found.fits(formula, expression) and found.argument is not None:
            constants = tuple(found.constants[place] for place in _PLACES[: len(function.constants)])
            yield Match(function, found.argument, constants)


def kernel_match(expression: Expression) -> Match | None:
    """Return the function of the zoo that an expression is and that PyTorch computes by one kernel, or None.

    Constants that not every float type has are no constants of a kernel, which would raise an error there.

    >>> kernel_match(parse("hardtanh(x,-2,2)")).function.kernel
    'functional.hardtanh'
    >>> kernel_match(parse("hardtanh(x,2,-2)")), kernel_match(parse("tanh(x)"))
    (None, None)
    """
    return next((match for match in matches(expression) if match.function.kernel and _has_kernel(match)), None)


def _has_kernel(match: Match) -> bool:
    in_all_types = all(value == 0 or _LEAST <= abs(value) <= _GREATEST for value in match.constants)
    return in_all_types and match.function.kernel_takes(*match.constants)


@cache
def _formulas() -> dict[str | None, list[tuple[NamedFunction, Expression]]]:
    """Return the formulas by their outermost operators, with a place in the place of each constant."""
    found: dict[str | None, list[tuple[NamedFunction, Expression]]] = {}
    for function in ZOO:
        if "learn" not in function.template:
            formula = parse(function.text([repr(place) for place in _PLACES[: len(function.constants)]]))
            found.setdefault(formula.operator, []).append((function, formula))
    return found


class _Comparison:
    """One comparison of an expression with a formula: what stands in the place of x, and in those of constants."""

    def __init__(self) -> None:
        self.argument: Expression | None = None
        self.constants: dict[float, float] = {}

    def fits(self, formula: Expression, expression: Expression) -> bool:
        """Return whether the expression is the formula, apart from its places."""
        if formula.value is not None:
            return expression.value is not None and self._is_number(formula.value, expression.value)
        if formula.operator is None:
            self.argument = expression if self.argument is None else self.argument
            return self.argument == expression
        if formula.operator != expression.operator or len(formula.arguments) != len(expression.arguments):
            return False
        return all(map(self.fits, formula.arguments, expression.arguments))

    def _is_number(self, wanted: float, value: float) -> bool:
        if abs(wanted) not in _PLACES:
            return wanted == value
        value = value if wanted > 0 else 0.0 - value  # softshrink has its constant also with the other sign
        return self.constants.setdefault(abs(wanted), value) == value
