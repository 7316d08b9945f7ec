"""The expression language: an immutable tree, its parser and its spelling.

    expression = "x" | number | operator "(" expression { "," expression } ")"

A number is a decimal constant such as `0.5`, `-2` or `1e-3`. It is spelled with the fewest digits that read back to
the same float64. An operator whose arguments are all numbers is computed at once (`add(1,0.5)` is `1.5`), so a
constant is always a leaf. The names of the zoo (`named_functions.py`) are read like operators and replaced by their
expressions; a name that is the whole text, such as `relu` or `hardswish`, is applied to x. White space may stand
between tokens. `str` prints the one canonical spelling, without spaces, and `parse(str(e)) == e` holds for every
expression. Texts may come from anywhere (files, databases, other people): the parser keeps its own stack, so that no
input exhausts Python's, and bounds on length and depth hold for parsed and for built trees alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.named_functions import NamedFunction, all_names, named_function
from aquasurf_ray.activations.registry import (
    VARIABLE,
    Elementwise,
    Operator,
    find_operator,
    operator_named,
    shortened,
    suggestion,
)

MAX_LENGTH = 10_000
MAX_DEPTH = 100

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[(),]|-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPACE = re.compile(r"[ \t\r\n]*")

Node = TypeVar("Node")


@dataclass(frozen=True, slots=True, repr=False)
class Expression:
    """A function of x as a tree: the variable, a number (`value` is set), or an operator applied to arguments.

    Equality, hash and pickle depend on the canonical spelling alone, so expressions are equal if they are spelled
    alike. Whether two expressions compute the same function is decided by `fingerprint`.

    Raises:
        OperatorError: if the operator is unknown.
        ExpressionError: if it does not take this number of arguments, the tree exceeds the bounds, or a number is not
            finite.

    >>> Expression("negative", (Expression(),))
    parse('negative(x)')
    >>> Expression("mul", (Expression(value=0.50), Expression()))
    parse('mul(0.5,x)')
    >>> Expression("exp", (Expression(value=1.0),)).value
    2.718281828459045
    """

    operator: str | None = field(default=None, compare=False)
    arguments: tuple[Expression, ...] = field(default=(), compare=False)
    value: float | None = field(default=None, compare=False)
    text: str = field(init=False)
    n_operators: int = field(init=False, compare=False)
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        text, n_operators, depth = VARIABLE, 0, 0
        if self.operator is not None or self.arguments:
            entry = operator_named(self.operator or "")
            _check_arguments(entry, self.arguments)
            self._fold(entry)
        if self.value is not None:
            text = spelled(self.value)
        elif self.operator is not None:
            text = f"{self.operator}({','.join(argument.text for argument in self.arguments)})"
            n_operators = 1 + sum(argument.n_operators for argument in self.arguments)
            depth = 1 + max(argument.depth for argument in self.arguments)
        if len(text) > MAX_LENGTH or depth > MAX_DEPTH:
            raise ExpressionError(f"expression of {len(text)} letters and depth {depth} is too large", 1)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "n_operators", n_operators)
        object.__setattr__(self, "depth", depth)

    def _fold(self, entry: Operator) -> None:
        """Become a number where a built-in operator is applied to numbers only."""
        numbers = [argument.value for argument in self.arguments]
        if entry.built_in and None not in numbers:
            result = entry.function(*(torch.tensor(number, dtype=torch.float64) for number in numbers)).item()
            if not math.isfinite(result):
                called = f"{entry.name}({','.join(argument.text for argument in self.arguments)})"
                raise ExpressionError(f"{called} is {result}; constants must be finite", 1)
            for name, content in (("operator", None), ("arguments", ()), ("value", result)):
                object.__setattr__(self, name, content)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"parse({self.text!r})"

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        """Pickle the text alone, so that only the language crosses processes."""
        return parse, (self.text,)

    def evaluate(self, x: Tensor) -> Tensor:
        """Return the function's values at `x`: a tensor of the same shape.

        >>> import torch
        >>> parse("mul(x, add(x, x))").evaluate(torch.tensor([1.0, 3.0]))
        tensor([ 2., 18.])
        """
        return run_program(program_of(self), x)


# --- parsing --------------------------------------------------------------------------------------------------------


def parse(text: str) -> Expression:
    """Return the expression that a text spells.

    Raises:
        ExpressionError: if the text is not in the language; `position` is the 1-based column.

    >>> str(parse(" mul( sigmoid(x), elu(x) ) "))
    'mul(sigmoid(x),elu(x))'
    >>> str(parse("relu")), str(parse("relu6(tanh(x))"))
    ('relu(x)', 'min(relu(tanh(x)),6)')
    >>> parse("mul(sigmiod(x),elu(x))")
    Traceback (most recent call last):
        ...
    aquasurf_ray.activations.errors.ExpressionError: unknown operator 'sigmiod' at 5; did you mean 'sigmoid'?
    """
    return parse_tree(_applied(text), _expression_node, Expression(), lambda value: Expression(value=value))


def _applied(text: str) -> str:
    """Return the text, and a name alone applied to x."""
    name = text.strip() if isinstance(text, str) else ""
    entry = find_operator(name)
    alone = entry.kind == "unary" if entry is not None else named_function(name) is not None
    return f"{text}({VARIABLE})" if alone else text


def spelled(value: float) -> str:
    """Return the shortest decimal number that reads back to the same float64; zero has no sign.

    Raises:
        ExpressionError: if the value is not finite.

    >>> spelled(0.50), spelled(6.0), spelled(-0.0), spelled(1e-7)
    ('0.5', '6', '0', '1e-07')
    """
    if not math.isfinite(value):
        raise ExpressionError(f"constants must be finite, got {value}", 1)
    return repr(float(value) + 0.0).removesuffix(".0")


def parse_tree(
    text: str,
    build: Callable[[str, Sequence[Node], int], Node],
    variable: Node,
    number: Callable[[float], Node],
) -> Node:
    """Parse any language of nested calls over x and numbers: `build(name, arguments, position)` makes a node bottom up,
    and `number(value)` a leaf.

    Raises:
        ExpressionError: if the text is not well formed, or too long or too deep; `build` may raise more.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"expected an expression as text, got {type(text).__name__}", 1)
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"expression of {len(text)} letters exceeds {MAX_LENGTH} at {MAX_LENGTH + 1}", MAX_LENGTH + 1
        )
    tokens = _Tokens(text)
    open_calls: list[tuple[_Token, list[Node]]] = []
    while True:
        name = tokens.next()
        if not (name.is_name or name.is_number):
            raise _unexpected(name, "an operator, a number or x")
        if name.is_name and tokens.peek().text == "(":
            tokens.next()
            open_calls.append((name, []))
            if len(open_calls) > MAX_DEPTH:
                raise ExpressionError(f"expression nests deeper than {MAX_DEPTH} at {name.position}", name.position)
            continue
        node = _leaf(name, variable, number)
        while open_calls:
            open_calls[-1][1].append(node)
            separator = tokens.next()
            if separator.text == ",":
                break
            if separator.text != ")":
                raise _unexpected(separator, "',' or ')'")
            called, arguments = open_calls.pop()
            node = build(called.text, arguments, called.position)
        else:
            if tokens.peek().text:
                raise _unexpected(tokens.peek(), "the end")
            return node


def _leaf(token: _Token, variable: Node, number: Callable[[float], Node]) -> Node:
    if token.is_number:
        value = float(token.text)
        if not math.isfinite(value):
            raise ExpressionError(f"number {shortened(token.text)} at {token.position} is too large", token.position)
        return number(value)
    if token.text != VARIABLE:
        raise _lone_name(token)
    return variable


class _Token(NamedTuple):
    """A name, a number or a punctuation mark; the end of the text is the empty token."""

    text: str
    position: int

    @property
    def is_name(self) -> bool:
        return self.text[:1].isalpha() or self.text[:1] == "_"

    @property
    def is_number(self) -> bool:
        return bool(self.text) and self.text[-1].isdigit() | (self.text[-1] == ".") and not self.is_name


class _Tokens:
    """The tokens of a text in order, with a lookahead of one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ahead = self._read(0)

    def peek(self) -> _Token:
        return self._ahead

    def next(self) -> _Token:
        token = self._ahead
        self._ahead = self._read(token.position - 1 + len(token.text))
        return token

    def _read(self, start: int) -> _Token:
        space = _SPACE.match(self._text, start)
        start = space.end() if space else start
        if start == len(self._text):
            return _Token("", start + 1)
        token = _TOKEN.match(self._text, start)
        if token is None:
            raise ExpressionError(f"unexpected character {self._text[start]!a} at {start + 1}", start + 1)
        return _Token(token.group(), start + 1)


def _expression_node(name: str, arguments: Sequence[Expression], position: int) -> Expression:
    if name == VARIABLE:
        raise ExpressionError(f"the variable x at {position} takes no arguments", position)
    entry, named = find_operator(name), named_function(name)
    if entry is not None and entry.accepts(len(arguments)):
        return Expression(name, tuple(arguments))
    if named is not None and (entry is None or (entry.built_in and named.constants)):
        return _named_expression(named, arguments, position)
    if entry is None:
        hint = suggestion(name, *all_names())
        raise ExpressionError(f"unknown operator {shortened(name)} at {position}{hint}", position)
    raise ExpressionError(f"operator {name!r} at {position} takes {entry.takes}, got {len(arguments)}", position)


def _named_expression(named: NamedFunction, arguments: Sequence[Expression], position: int) -> Expression:
    """Return the expression of a function of the zoo: its argument comes first, or is x if left out, then constants."""
    argument, *constants = (Expression(), *arguments) if _is_constant(arguments[0]) else arguments
    if not all(map(_is_constant, constants)):
        raise ExpressionError(f"function {named.name!r} at {position} takes one argument and then numbers", position)
    if not constants and find_operator(named.name) is not None:
        return Expression(named.name, (argument,))
    return _with_argument(parse(named.text([constant.text for constant in constants], position)), argument)


def _is_constant(expression: Expression) -> bool:
    return expression.value is not None


def _with_argument(expression: Expression, argument: Expression) -> Expression:
    """Return the expression with `argument` in the place of x."""
    if expression.operator is None:
        return argument if expression.value is None else expression
    arguments = tuple(_with_argument(each, argument) for each in expression.arguments)
    return Expression(expression.operator, arguments)


def _check_arguments(entry: Operator, arguments: tuple[Expression, ...]) -> None:
    if not entry.accepts(len(arguments)):
        raise ExpressionError(f"operator {entry.name!r} takes {entry.takes}, got {len(arguments)}", 1)


def _unexpected(token: _Token, expected: str) -> ExpressionError:
    got = shortened(token.text) if token.text else "the end"
    return ExpressionError(f"expected {expected} at {token.position}, got {got}", token.position)


def _lone_name(name: _Token) -> ExpressionError:
    entry = find_operator(name.text)
    if entry is None and named_function(name.text) is not None:
        return ExpressionError(
            f"function {name.text!r} at {name.position} lacks its argument; write {name.text}(x)", name.position
        )
    if entry is None:
        hint = suggestion(name.text, *all_names()) or "; the variable is x"
        return ExpressionError(f"unknown name {shortened(name.text)} at {name.position}{hint}", name.position)
    example = {"unary": "(x)", "binary": "(x,x)", "nary": "(x,x,x)"}[entry.kind]
    return ExpressionError(
        f"operator {name.text!r} at {name.position} lacks arguments; write {name.text}{example}", name.position
    )


# --- evaluation -----------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One operation: the function, the registers that it reads, and those of them that no later step reads."""

    function: Elementwise
    arguments: tuple[int, ...]
    released: tuple[int, ...]


Program = tuple[Step, ...]
"""An expression as a straight list of tensor operations, which is evaluated without walking the tree.

Registers are numbered in the order of computation; register 0 is x. A sub-expression that occurs twice is computed
once. Tensors are released as early as a hand-written function would release them.
"""


@dataclass(frozen=True)
class Number:
    """A constant as a function of x: a tensor of x's type and device, and of its shape if `full`, else without one."""

    value: float
    full: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_full(x.shape if self.full else (), self.value)


def program_of(expression: Expression) -> Program:
    """Return the steps that compute an expression; the result of the last step is its value.

    A constant function is computed as `add(zero(x),c)`, so that it has x's shape and a gradient, which is 0.
    """
    registers: dict[Expression, int] = {}
    if expression.value is not None:
        zero = operator_named("zero").function
        return (Step(zero, (0,), ()), Step(Number(expression.value), (0,), (0,)), Step(torch.add, (1, 2), (1, 2)))
    steps: list[tuple[Elementwise, tuple[int, ...]]] = []
    _append_steps(expression, registers, steps)
    last_use = {register: step for step, (_, arguments) in enumerate(steps) for register in arguments}
    return tuple(
        Step(function, arguments, tuple(r for r in dict.fromkeys(arguments) if last_use[r] == step))
        for step, (function, arguments) in enumerate(steps)
    )


def run_program(program: Program, x: Tensor) -> Tensor:
    """Return the value of a program at `x`, of the same shape."""
    registers = {0: x}
    result = x
    for number, (function, arguments, released) in enumerate(program, start=1):
        result = function(*[registers[argument] for argument in arguments])
        registers[number] = result
        for register in released:
            del registers[register]
    return result


def _append_steps(
    expression: Expression, registers: dict[Expression, int], steps: list[tuple[Elementwise, tuple[int, ...]]]
) -> int:
    """Append the steps that an expression lacks, and return the register that holds its value."""
    if expression.operator is None:
        return 0
    if expression not in registers:
        entry = operator_named(expression.operator)
        arguments = []
        for argument in expression.arguments:
            if argument.value is None:
                arguments.append(_append_steps(argument, registers, steps))
            else:  # an operator of the user's own is promised arguments of one shape
                steps.append((Number(argument.value, full=not entry.built_in), (0,)))
                arguments.append(len(steps))
        steps.append((entry.function, tuple(arguments)))
        registers[expression] = len(steps)
    return registers[expression]
