"""New functions from known ones, for a search space that grows: mutations of one parent, crossover of two.

Parents are expressions, best first, and better ones are drawn more often. A child is a valid expression within the
limit on its operators that differs from its parents in one change. The changes are the table `CHANGES`, one line each.
Different expressions may still be one function: `spaces.evaluation` computes fingerprints of thousands a second.

Everything random follows from the seed, a text. Only `random.Random.random` is drawn from, whose sequence Python keeps
from version to version, so that an interrupted search makes the same children again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.registry import SLOTS, Kind, all_operators, operator_named

GROWTH_VERSION = 1
"""The version of the changes and of their odds: increment it when one seed would give other children."""

MAX_OPERATORS = 10
MAX_PARAMETERS = 4
POINTLESS = frozenset({"zero", "one", "identity"})
"""Operators that no change puts into a function: the constants 0 and 1, and no operator at all, do the same."""

_TRIES_A_CHILD = 20  # a change may find nothing to change, or exceed the limit; about half of all tries succeed
_SHARE_UNARY = 0.5  # of the operators that are inserted; the others join the function with a leaf
_LARGEST_STEP = 2.0  # a constant is at most doubled or halved at a time
_NUMBERS = (-1.0, 0.7)  # new constants lie between 10^-1 and 10^0.7, like those of the functions that people use

Path = tuple[int, ...]
T = TypeVar("T")

VARIABLE = Expression()


@dataclass(frozen=True)
class Child:
    """A new function, the name of the change that made it, and the positions of its parents in the list given."""

    expression: Expression
    change: str
    parents: tuple[int, ...]


def children(
    parents: Sequence[Expression], n: int, seed: str, *, max_operators: int = MAX_OPERATORS, learned: bool = True
) -> list[Child]:
    """Return up to n children with different spellings, none that of a parent.

    Args:
        parents: the functions to change, best first; without any, all children are random functions.
        n: the number of children; fewer are returned if hardly any more can be found.
        seed: decides every random choice.
        max_operators: the largest number of operators in a child.
        learned: whether children may get learned parameters that their parents lack.

    >>> [str(child.expression) for child in children([], 2, "a seed")]
    ['mul(abs(x),elish(x))', 'add(sin(x),softplus(x))']
    """
    draw = _Draw(seed)
    families = [_Parent(parent) for parent in parents]
    taken, found = set(parents), list[Child]()
    for _ in range(_TRIES_A_CHILD * n):
        if len(found) == n:
            break
        child = _child(families, draw, learned)
        if child is None or child.expression in taken or not _is_allowed(child.expression, max_operators):
            continue
        taken.add(child.expression)
        found.append(child)
    return found


class _Draw:
    """Random choices that depend on the seed alone."""

    def __init__(self, seed: str) -> None:
        self.share = random.Random(seed).random  # noqa: S311 - not for cryptography
        self._operators = {kind: [e.name for e in all_operators(kind) if e.name not in POINTLESS] for kind in SLOTS}

    def below(self, n: int) -> int:
        """Return a number from 0 to n - 1."""
        return int(self.share() * n)

    def one_of(self, choices: Sequence[T]) -> T:
        """Return one of the choices, all equally likely."""
        return choices[self.below(len(choices))]

    def operator(self, kind: Kind) -> str:
        """Return an operator of this kind."""
        return self.one_of(self._operators[kind])

    def number(self) -> float:
        """Return a constant of two significant digits; one in four is negative."""
        low, high = _NUMBERS
        size = float(f"{10 ** (low + (high - low) * self.share()):.2g}")
        return -size if self.share() < 0.25 else size

    def leaf(self) -> Expression:
        """Return x, an operator of x, or a constant."""
        share = self.share()
        if share < 0.4:
            return VARIABLE
        return _unary(self.operator("unary"), VARIABLE) if share < 0.8 else Expression(value=self.number())


class _Parent:
    """An expression with all places in it, root first."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self.places: list[tuple[Path, Expression]] = []
        self._collect((), expression)
        self.calls = [place for place in self.places if place[1].operator is not None]
        self.numbers = [place for place in self.places if place[1].value is not None or place[1].learned is not None]

    def _collect(self, path: Path, node: Expression) -> None:
        self.places.append((path, node))
        for i, argument in enumerate(node.arguments):
            self._collect((*path, i), argument)

    def with_(self, path: Path, new: Expression) -> Expression:
        """Return the expression with another node at one place."""
        return _rebuilt(self.expression, [(path, new)])


Change = Callable[[_Parent, _Draw], Expression | None]


def _child(parents: Sequence[_Parent], draw: _Draw, learned: bool) -> Child | None:
    change, make = _drawn_change(draw)
    if change == PARAMETER and not learned:
        return None
    try:
        if not parents or change == RANDOM:
            return Child(_random_function(draw), RANDOM, ())
        first = _drawn_parent(parents, draw)
        if change == CROSSOVER:
            second = _drawn_parent(parents, draw)
            return Child(_crossed(parents[first], parents[second], draw), CROSSOVER, (first, second))
        made = make(parents[first], draw)
    except ExpressionError:  # a constant subexpression is infinite, or the tree exceeds the language's own bounds
        return None
    return None if made is None else Child(made, change, (first,))


def _drawn_parent(parents: Sequence[_Parent], draw: _Draw) -> int:
    """Return the position of a parent; half of the draws come from the best quarter."""
    return int(len(parents) * draw.share() ** 2)


def _is_allowed(expression: Expression, max_operators: int) -> bool:
    """Return whether a child is within the limits, and a function of x at all."""
    is_small = expression.n_operators <= max_operators and len(expression.parameters) <= MAX_PARAMETERS
    return is_small and _has_variable(expression)


def _has_variable(node: Expression) -> bool:
    return node == VARIABLE or any(map(_has_variable, node.arguments))


# --- the changes ----------------------------------------------------------------------------------------------------


def _replaced(parent: _Parent, draw: _Draw) -> Expression | None:
    """Exchange an operator for another one of its kind."""
    if not parent.calls:
        return None
    path, node = draw.one_of(parent.calls)
    return parent.with_(path, Expression(draw.operator(operator_named(node.operator or "").kind), node.arguments))


def _inserted(parent: _Parent, draw: _Draw) -> Expression:
    """Put an operator above a node: a unary one, or one that joins the node with leaves."""
    path, node = draw.one_of(parent.places)
    if draw.share() < _SHARE_UNARY:
        return parent.with_(path, _unary(draw.operator("unary"), node))
    kind: Kind = "binary" if draw.share() < 0.8 else "nary"
    arguments = [node, draw.leaf()] if kind == "binary" else [node, draw.leaf(), draw.leaf()]
    if draw.share() < 0.5:
        arguments.reverse()
    return parent.with_(path, Expression(draw.operator(kind), tuple(arguments)))


def _removed(parent: _Parent, draw: _Draw) -> Expression | None:
    """Leave one argument in an operator's place."""
    if not parent.calls:
        return None
    path, node = draw.one_of(parent.calls)
    return parent.with_(path, draw.one_of(node.arguments))


def _hoisted(parent: _Parent, draw: _Draw) -> Expression | None:
    """Keep one inner operator with everything below it."""
    inner = parent.calls[1:] if parent.calls and not parent.calls[0][0] else []
    return draw.one_of(inner)[1] if inner else None


def _swapped(parent: _Parent, draw: _Draw) -> Expression | None:
    """Exchange two subexpressions, neither of which contains the other; for example an operator's arguments."""
    (first, one), (second, other) = draw.one_of(parent.places), draw.one_of(parent.places)
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:
        return None
    # In one step: the first exchange alone may fold an operator of constants into a number, and with it the other.
    return _rebuilt(parent.expression, [(first, other), (second, one)])


def _with_other_number(parent: _Parent, draw: _Draw) -> Expression | None:
    """Change a constant, or the initial value of a learned parameter, by at most a factor of two, or its sign."""
    if not parent.numbers:
        return None
    path, node = draw.one_of(parent.numbers)
    value = (node.value if node.learned is None else node.learned.initial) or draw.number()
    value = -value if draw.share() < 0.1 else value * _LARGEST_STEP ** (2 * draw.share() - 1)
    value = float(f"{value:.3g}")
    new = Expression(value=value) if node.learned is None else Expression(learned=node.learned._replace(initial=value))
    return parent.with_(path, new)


def _with_constant(parent: _Parent, draw: _Draw) -> Expression:
    """Put a constant on an edge: a factor or a summand of a node."""
    path, node = draw.one_of(parent.places)
    operator = "mul" if draw.share() < 0.6 else "add"
    return parent.with_(path, Expression(operator, (Expression(value=draw.number()), node)))


def _with_parameter(parent: _Parent, draw: _Draw) -> Expression:
    """Put a learned parameter on an edge, without changing the function: a factor of 1 or a summand of 0; or learn a
    constant from its value on."""
    path, node = draw.one_of(parent.places)
    per_channel = draw.share() < 0.5
    if node.value is not None:
        return parent.with_(path, Expression(learned=Learned(node.value, per_channel)))
    operator, initial = ("mul", 1.0) if draw.share() < 0.6 else ("add", 0.0)
    return parent.with_(path, Expression(operator, (Expression(learned=Learned(initial, per_channel)), node)))


def _crossed(first: _Parent, second: _Parent, draw: _Draw) -> Expression:
    """Put a subexpression of the second parent into a place of the first."""
    return first.with_(draw.one_of(first.places)[0], draw.one_of(second.places)[1])


def _random_function(draw: _Draw) -> Expression:
    """Return a function of the three-node shape."""
    arguments = tuple(_unary(draw.operator("unary"), VARIABLE) for _ in range(2))
    return Expression(draw.operator("binary"), arguments)


RANDOM, CROSSOVER, PARAMETER = "random", "crossover", "put parameter"
_NOTHING: Change = lambda parent, draw: None  # noqa: E731 - these two lines of the table are not changes of one parent

CHANGES: dict[str, tuple[float, Change]] = {
    "replace": (0.17, _replaced),
    "insert": (0.17, _inserted),
    "remove": (0.08, _removed),
    "hoist": (0.03, _hoisted),
    "swap": (0.06, _swapped),
    "constant": (0.12, _with_other_number),
    "put constant": (0.13, _with_constant),
    PARAMETER: (0.08, _with_parameter),
    CROSSOVER: (0.16, _NOTHING),
    RANDOM: (0.08, _NOTHING),
}
"""The changes by name, each with its odds; a change that finds nothing to change leaves its turn to another draw."""

_ALL_ODDS = sum(odds for odds, _ in CHANGES.values())


def _drawn_change(draw: _Draw) -> tuple[str, Change]:
    left = draw.share() * _ALL_ODDS
    for name, (odds, make) in CHANGES.items():
        left -= odds
        if left < 0:
            return name, make
    return RANDOM, _NOTHING  # only if rounding leaves a rest


def _unary(operator: str, argument: Expression) -> Expression:
    return Expression(operator, (argument,))


def _rebuilt(node: Expression, new: Sequence[tuple[Path, Expression]]) -> Expression:
    """Return a tree with other nodes at some places, none of which lies below another."""
    if not new[0][0]:
        return new[0][1]
    arguments = list(node.arguments)
    for i in {path[0] for path, _ in new}:
        arguments[i] = _rebuilt(arguments[i], [(path[1:], other) for path, other in new if path[0] == i])
    return Expression(node.operator, tuple(arguments))
