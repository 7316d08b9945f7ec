"""A schema: a tree with a choice of operators at every node, which stands for the product of all choices.

The text of a schema is an expression in which `unary`, `binary` and `nary` stand for any operator of a list, for
example `binary(unary(x),unary(x))`; an operator may also be written out, as in `mul(unary(x),sigmoid(x))`.

The names of a schema have a fixed order, the choice at the root varying slowest and the last argument fastest. So a
name is identified by its index, and enumeration never needs to hold the names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aquasurf_ray.activations.errors import ExpressionError, SpaceError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.grammar import parse_tree
from aquasurf_ray.activations.registry import SLOTS, Kind, find_operator, shortened, suggestion

OperatorLists = Mapping[Kind, tuple[str, ...]]

X = Expression()


@dataclass(frozen=True)
class Schema:
    """One node: the operators to choose from and the schemas of their arguments; `leaf` if there are neither."""

    choices: tuple[str, ...] = ()
    arguments: tuple[Schema, ...] = ()
    leaf: Expression = X

    @cached_property
    def n_names(self) -> int:
        """The number of expressions of the schema."""
        return math.prod((len(self.choices), *(argument.n_names for argument in self.arguments))) if self.choices else 1

    @cached_property
    def n_operators(self) -> int:
        """The number of operators in each of its expressions."""
        return 1 + sum(argument.n_operators for argument in self.arguments) if self.choices else 0

    @cached_property
    def has_numbers(self) -> bool:
        """True if its expressions have constants or learned parameters."""
        return self.leaf.has_numbers or any(argument.has_numbers for argument in self.arguments)

    def names(self) -> Iterator[str]:
        """Yield all expressions of the schema, spelled canonically, in the order of their indices.

        >>> list(Schema(("relu", "elu"), (Schema(),)).names())
        ['relu(x)', 'elu(x)']
        """
        if not self.choices:
            yield self.leaf.text
            return
        # Lists, because itertools.product would read an iterator only once; each is one argument's names, not the
        # product.
        names = [list(argument.names()) for argument in self.arguments]
        for choice in self.choices:
            for combination in itertools.product(*names):
                yield f"{choice}({','.join(combination)})"

    def name_at(self, index: int) -> str:
        """Return the expression of one index."""
        if not self.choices:
            return self.leaf.text
        names = []
        # The last argument varies fastest, like the last digit of a number.
        for argument in reversed(self.arguments):
            index, remainder = divmod(index, argument.n_names)
            names.append(argument.name_at(remainder))
        return f"{self.choices[index]}({','.join(reversed(names))})"

    def generates(self, expression: Expression) -> bool:
        """Return whether the expression is one of the schema's names."""
        if not self.choices or expression.operator is None:
            return not self.choices and expression.operator is None and self.leaf == expression
        return (
            expression.operator in self.choices
            and len(expression.arguments) == len(self.arguments)
            and all(map(Schema.generates, self.arguments, expression.arguments))
        )

    def overlaps(self, other: Schema) -> bool:
        """Return whether the two schemas have a name in common."""
        if not self.choices or not other.choices:
            return not self.choices and not other.choices and self.leaf == other.leaf
        return (
            not set(self.choices).isdisjoint(other.choices)
            and len(self.arguments) == len(other.arguments)
            and all(map(Schema.overlaps, self.arguments, other.arguments))
        )


def parse_schema(text: str, lists: OperatorLists) -> Schema:
    """Return the schema that a text spells, with its slots filled from the operator lists.

    Raises:
        SpaceError: the text is not a schema, or the list of a slot is empty.

    >>> lists = {"unary": ("exp", "tanh"), "binary": ("add", "mul"), "nary": ()}
    >>> list(parse_schema("binary(unary(x), relu(x))", lists).names())[:2]
    ['add(exp(x),relu(x))', 'add(tanh(x),relu(x))']
    """

    def node(name: str, arguments: Sequence[Schema], position: int) -> Schema:
        choices = tuple(lists[name]) if name in SLOTS else (name,)
        if not choices:
            raise ExpressionError(
                f"there are no {name} operators to choose from at {position}; list some under {name}:", position
            )
        for choice in choices:
            _check_operator(choice, len(arguments), position)
        if all(argument.leaf.value is not None for argument in arguments):
            _refuse_numbers_only(name, choices, position)
        return Schema(choices, tuple(arguments))

    try:
        schema = parse_tree(
            text,
            node,
            Schema(),
            lambda value: Schema(leaf=Expression(value=value)),
            lambda learned: Schema(leaf=Expression(learned=learned)),
        )
        parse(schema.name_at(0))  # whose leaves and size are those of all its names
        return schema
    except ExpressionError as error:
        raise SpaceError(f"schema {shortened(str(text))}: {error}") from error


def _refuse_numbers_only(name: str, choices: Sequence[str], position: int) -> None:
    """Refuse a node whose names would be no canonical spellings, because the language computes them at once."""
    if any((entry := find_operator(choice)) is not None and entry.built_in for choice in choices):
        raise ExpressionError(
            f"{name!r} at {position} has only numbers as arguments, which is a number; write the number", position
        )


def _check_operator(name: str, n_arguments: int, position: int) -> None:
    entry = find_operator(name)
    if entry is None:
        hint = suggestion(name, *SLOTS)
        raise ExpressionError(f"unknown operator {shortened(name)} at {position}{hint}", position)
    if not entry.accepts(n_arguments):
        raise ExpressionError(f"operator {name!r} at {position} takes {entry.takes}, got {n_arguments}", position)
