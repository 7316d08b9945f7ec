"""The zoo as expressions: what `--baselines zoo`, `evaluate zoo` and spaces take from the table of named functions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import get_args

from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.named_functions import ZOO, NamedFunction, named_function
from aquasurf_ray.baselines import BASELINES, REFERENCE, BaselineSet

__all__ = [
    "BASELINES",
    "REFERENCE",
    "ZOO",
    "BaselineSet",
    "NamedFunction",
    "baseline_names",
    "expanded",
    "name_of",
    "named_function",
    "zoo_expressions",
    "zoo_functions",
]

LIST = "zoo"
"""The word that stands for the whole zoo in a list of functions."""


def zoo_expressions() -> dict[str, Expression]:
    """Return all functions of the zoo by name, in the order of the table, with their published constants.

    >>> str(zoo_expressions()["quick_gelu"])
    'mul(x,sigmoid(mul(1.702,x)))'
    """
    return {function.name: parse(function.name) for function in ZOO}


@cache
def zoo_functions() -> tuple[tuple[str, Expression], ...]:
    """Return the distinct functions of the zoo with their names, each once: the first name of those that are equal.

    Equal are functions with one fingerprint, such as ELU and CELU at a = 1. ReLU6 counts as ReLU, which it equals on
    the sample that identifies functions, because none of its points is greater than 6.
    """
    first: dict[str, tuple[str, Expression]] = {}
    for name, expression in zoo_expressions().items():
        first.setdefault(_fingerprint(expression), (name, expression))
    return tuple(first.values())


def expanded(functions: Iterable[str]) -> list[str]:
    """Return a list of functions in which the word `zoo` is replaced by the functions of the zoo.

    >>> expanded(["mul(x,erf(x))", "zoo"])[:3]
    ['mul(x,erf(x))', 'relu(x)', 'add(relu(x),mul(0.01,min(x,0)))']
    """
    whole = [str(expression) for _, expression in zoo_functions()]
    return [each for text in functions for each in (whole if text == LIST else [text])]


def baseline_names(which: BaselineSet = "paper") -> tuple[str, ...]:
    """Return the functions that a search trains first, in their order: the paper's eight, then with `zoo` the others.

    Raises:
        ValueError: there is no such set of baselines.
    """
    if which not in get_args(BaselineSet):
        raise ValueError(f"baselines must be {' or '.join(get_args(BaselineSet))}, got {which!r}")
    if which == "paper":
        return BASELINES
    known = set(map(_fingerprint, BASELINES))
    others = (expression for _, expression in zoo_functions() if _fingerprint(expression) not in known)
    return (*BASELINES, *map(str, others))


def name_of(expression: Expression | str) -> str | None:
    """Return the zoo's name of a function, or None; functions are compared by their fingerprints.

    >>> name_of("mul(sigmoid(mul(x,1.702)),x)")
    'quick_gelu'
    """
    return _names().get(_fingerprint(expression))


@cache
def _names() -> dict[str, str]:
    return {_fingerprint(expression): name for name, expression in zoo_functions()}


def _fingerprint(expression: Expression | str) -> str:
    from aquasurf_ray.activations.identity import fingerprint  # loads PyTorch, which the paper's baselines do not need

    return fingerprint(expression)
