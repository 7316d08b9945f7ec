"""A function for each role of a network: its text, its reading and its printing.

    functions = role "=" expression { ";" role "=" expression }

A network whose factory is given several activations has a role for each: `early=relu(x);late=swish(x)`. The one
canonical spelling has the roles in alphabetical order, because a text is compared and stored where no task is known.
If all roles have one spelling, it is the function without roles, `relu(x)`, so that a search on such a network may
train both kinds, and each function of them has one identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.grammar import MAX_LENGTH, Learned
from aquasurf_ray.activations.registry import shortened

ROLE_MARK, NEXT_ROLE = "=", ";"


@dataclass(frozen=True, repr=False)
class RoleFunctions:
    """A function for each of two roles or more; equal if they are spelled alike.

    Raises:
        ExpressionError: there are fewer than two roles, or one is not named like a variable.

    >>> RoleFunctions({"late": parse("swish"), "early": parse("relu")})
    parse_function('early=relu(x);late=swish(x)')
    """

    of_role: Mapping[str, Expression] = field(compare=False)
    """The functions by role, in alphabetical order."""
    text: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.of_role) < 2:
            raise ExpressionError(f"a function per role needs two roles or more, got {', '.join(self.of_role)}", 1)
        for role in self.of_role:
            _check_name(role, 1)
        object.__setattr__(self, "of_role", dict(sorted(self.of_role.items())))
        object.__setattr__(self, "text", joined({role: str(each) for role, each in self.of_role.items()}))

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles, in alphabetical order."""
        return tuple(self.of_role)

    @property
    def n_operators(self) -> int:
        """The number of operators in all functions together."""
        return sum(each.n_operators for each in self.of_role.values())

    @property
    def parameters(self) -> tuple[Learned, ...]:
        """The learned parameters of all functions, role by role."""
        return tuple(parameter for each in self.of_role.values() for parameter in each.parameters)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"parse_function({self.text!r})"

    def __reduce__(self) -> tuple[type[RoleFunctions], tuple[Mapping[str, Expression]]]:
        return RoleFunctions, (self.of_role,)


Function = Expression | RoleFunctions
"""What a network is trained with: one function everywhere, or one for each of its roles."""


def parse_function(text: str) -> Function:
    """Return what a text spells: an expression, or a function for each role.

    Raises:
        ExpressionError: the text is neither; `position` is the 1-based column.

    >>> parse_function("late = x*sigmoid(x); early = relu")
    parse_function('early=relu(x);late=mul(x,sigmoid(x))')
    >>> parse_function("early=relu;late=relu(x)"), parse_function("relu")
    (parse('relu(x)'), parse('relu(x)'))
    """
    # A text that is too long is refused before anything searches it.
    if not isinstance(text, str) or len(text) > MAX_LENGTH or ROLE_MARK not in text:
        return parse(text)
    return same_or_by_role({role: _parsed(role, part, at) for role, (part, at) in _parts(text).items()})


def same_or_by_role(functions: Mapping[str, Expression]) -> Function:
    """Return the functions of all roles: the one function if they are all spelled alike."""
    different = set(functions.values())
    return different.pop() if len(different) == 1 else RoleFunctions(functions)


def function_of(function: Function, role: str) -> Expression:
    """Return the function that a role has.

    Raises:
        ExpressionError: there is no such role.

    >>> function_of(parse_function("early=relu(x);late=swish(x)"), "late"), function_of(parse("relu"), "late")
    (parse('swish(x)'), parse('relu(x)'))
    """
    if isinstance(function, Expression):
        return function
    if role not in function.of_role:
        raise ExpressionError(f"unknown role '{role}' of {function}; it has {', '.join(function.roles)}", 1)
    return function.of_role[role]


def joined(texts: Mapping[str, str]) -> str:
    """Return texts by role as one text.

    >>> joined({"early": "eager", "late": "compiled"})
    'early=eager;late=compiled'
    """
    return NEXT_ROLE.join(f"{role}{ROLE_MARK}{text}" for role, text in texts.items())


def parts_of(text: str) -> dict[str, str]:
    """Return the texts by role that `joined` put into one.

    >>> parts_of("early=eager;late=compiled"), parts_of("eager")
    ({'early': 'eager', 'late': 'compiled'}, {})
    """
    return {role: part for role, (part, _) in _parts(text).items()} if ROLE_MARK in text else {}


def _parts(text: str) -> dict[str, tuple[str, int]]:
    """Return the text of each role, and the column where it begins."""
    parts: dict[str, tuple[str, int]] = {}
    column = 1
    for part in text.split(NEXT_ROLE):
        name, mark, rest = part.partition(ROLE_MARK)
        role = name.strip()
        if not mark:
            raise ExpressionError(f"no role at {column}: write one for each function, as in {_EXAMPLE}", column)
        _check_name(role, column)
        if role in parts:
            raise ExpressionError(f"role {shortened(role)} at {column} has a function already", column)
        parts[role] = rest, column + len(name) + 1
        column += len(part) + 1
    return parts


_EXAMPLE = "'early=relu(x);late=swish(x)'"


def _parsed(role: str, text: str, column: int) -> Expression:
    try:
        return parse(text)
    except ExpressionError as error:
        raise ExpressionError(f"role '{role}': {error}", column + error.position - 1) from error


def _check_name(role: str, column: int) -> None:
    if not role.isidentifier() or not role.isascii():
        raise ExpressionError(f"role {shortened(role)} at {column} must be a name of letters, digits and _", column)
