"""The grammar of expressions and schemas: nested calls over x, numbers and learned parameters.

    expression = "x" | number | learned | operator "(" expression { "," expression } ")"
    learned    = ( "learn" | "learn_channel" ) "(" number [ "," label ] ")"

White space may stand between tokens. Texts may come from anywhere (files, databases, other people): the parser keeps
its own stack, so that no input exhausts Python's, and bounds the length and the depth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.named_functions import all_names, named_function
from aquasurf_ray.activations.registry import LEARNED, VARIABLE, find_operator, shortened, suggestion

# Far above any real function; the bounds exist for texts from files and other people's databases.
MAX_LENGTH = 10_000
MAX_DEPTH = 100

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[(),]|-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPACE = re.compile(r"[ \t\r\n]*")
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,19}")

_CLOSE = "close the bracket with ')'"
_SEPARATE = "separate arguments with commas"

Node = TypeVar("Node")


class Learned(NamedTuple):
    """A learned parameter of a function: a number that is trained with the network that uses the function.

    Attributes:
        initial: the value that it begins with.
        per_channel: whether each channel of the input has its own, instead of one for the whole layer.
        label: its name. Uses with the same label are one parameter; each use without a label is one of its own.

    >>> Learned(1.0).text, Learned(0.25, per_channel=True, label="a").text
    ('learn(1)', 'learn_channel(0.25,a)')
    """

    initial: float
    per_channel: bool = False
    label: str = ""

    @property
    def text(self) -> str:
        """The canonical spelling."""
        label = f",{self.label}" if self.label else ""
        return f"{LEARNED[self.per_channel]}({spelled(self.initial)}{label})"


def spelled(value: float) -> str:
    """Return the shortest decimal number that reads back to the same float64; zero has no sign.

    Raises:
        ExpressionError: if the value is not finite.

    >>> spelled(0.50), spelled(6.0), spelled(-0.0), spelled(1e-7)
    ('0.5', '6', '0', '1e-07')
    """
    if not math.isfinite(value):
        raise ExpressionError(f"constants must be finite, got {value}", 1)
    # Adding 0.0 turns -0.0 into 0.0, so that both are one spelling.
    return repr(float(value) + 0.0).removesuffix(".0")


def parse_tree(
    text: str,
    build: Callable[[str, Sequence[Node], int], Node],
    variable: Node,
    number: Callable[[float], Node],
    learned: Callable[[Learned], Node],
) -> Node:
    """Parse any language of nested calls over x, numbers and learned parameters: `build(name, arguments, position)`
    makes a node bottom up, `number(value)` and `learned(parameter)` make leaves.

    Raises:
        ExpressionError: if the text is not well formed, or too long or too deep; `build` may raise more.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"expected an expression as text, got {type(text).__name__}", 1)
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"expression of {len(text)} letters must have at most {MAX_LENGTH}; write a shorter one", MAX_LENGTH + 1
        )
    tokens = _Tokens(text)
    open_calls: list[tuple[_Token, list[Node]]] = []
    while True:
        name = tokens.next()
        if not (name.is_name or name.is_number):
            raise _unexpected(name, "an operator, a number or x", "write a value there, such as x")
        is_call = name.is_name and tokens.peek().text == "("
        # A learned parameter looks like a call, but is a leaf with arguments of its own kind.
        if is_call and name.text not in LEARNED:
            tokens.next()
            open_calls.append((name, []))
            if len(open_calls) > MAX_DEPTH:
                text = f"expression nests deeper than {MAX_DEPTH} at {name.position}; write a flatter one"
                raise ExpressionError(text, name.position)
            continue
        node = learned(_learned(name, tokens)) if is_call else _leaf(name, variable, number)
        while open_calls:
            open_calls[-1][1].append(node)
            separator = tokens.next()
            if separator.text == ",":
                break
            if separator.text != ")":
                raise _unexpected(separator, "',' or ')'", _SEPARATE if separator.text else _CLOSE)
            called, arguments = open_calls.pop()
            node = build(called.text, arguments, called.position)
        else:
            if tokens.peek().text:
                rest = tokens.peek()
                remedy = "remove it" if rest.text in (",", ")") else "remove the rest, or join both, as in mul(a,b)"
                raise _unexpected(rest, "the end", remedy)
            return node


def _leaf(token: _Token, variable: Node, number: Callable[[float], Node]) -> Node:
    if token.is_number:
        return number(_value(token))
    if token.text != VARIABLE:
        raise _lone_name(token)
    return variable


def _value(token: _Token) -> float:
    value = float(token.text)
    if not math.isfinite(value):
        text = f"number {shortened(token.text)} at {token.position} is too large; write one that float64 can hold"
        raise ExpressionError(text, token.position)
    return value


def _learned(name: _Token, tokens: _Tokens) -> Learned:
    """Read the arguments of a learned parameter: its initial value, and its label if there is one."""
    tokens.next()
    initial = tokens.next()
    if not initial.is_number:
        got = shortened(initial.text) if initial.text else "the end"
        raise ExpressionError(
            f"{name.text} at {name.position} takes its initial value, a number, got {got}; write {name.text}(1)",
            initial.position,
        )
    label, end = "", tokens.next()
    if end.text == ",":
        token, end = tokens.next(), tokens.next()
        label = checked_label(token.text, token.position)
    if end.text != ")":
        raise _unexpected(end, "',' or ')'" if not label else "')'", _CLOSE)
    return Learned(_value(initial), LEARNED.index(name.text) == 1, label)


def checked_label(label: str, position: int = 1) -> str:
    """Return the label of a learned parameter.

    Raises:
        ExpressionError: it is x, or no name in small letters, digits and underscores.
    """
    if label == VARIABLE or not _LABEL.fullmatch(label):
        raise ExpressionError(
            f"label {shortened(label)} at {position} must be a name of at most 20 small letters, digits and "
            f"underscores, other than {VARIABLE}",
            position,
        )
    return label


class _Token(NamedTuple):
    """A name, a number or a punctuation mark; the end of the text is the empty token."""

    text: str
    position: int

    @property
    def is_name(self) -> bool:
        return self.text[:1].isalpha() or self.text[:1] == "_"

    @property
    def is_number(self) -> bool:
        # Names may end with a digit, too, hence the last condition.
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
            raise ExpressionError(
                f"unexpected character {self._text[start]!a} at {start + 1}; write names, numbers, commas and brackets",
                start + 1,
            )
        return _Token(token.group(), start + 1)


def _unexpected(token: _Token, expected: str, remedy: str) -> ExpressionError:
    got = shortened(token.text) if token.text else "the end"
    return ExpressionError(f"expected {expected} at {token.position}, got {got}; {remedy}", token.position)


def _lone_name(name: _Token) -> ExpressionError:
    if name.text in LEARNED:
        return ExpressionError(
            f"{name.text} at {name.position} lacks its initial value; write {name.text}(1)", name.position
        )
    entry = find_operator(name.text)
    # A name of the zoo without its argument is the likeliest mistake, so it has a hint of its own.
    if entry is None and named_function(name.text) is not None:
        return ExpressionError(
            f"function {name.text!r} at {name.position} lacks its argument; write {name.text}(x)", name.position
        )
    if entry is None:
        hint = suggestion(name.text, *all_names(), otherwise="; the variable is x")
        return ExpressionError(f"unknown name {shortened(name.text)} at {name.position}{hint}", name.position)
    example = {"unary": "(x)", "binary": "(x,x)", "nary": "(x,x,x)"}[entry.kind]
    return ExpressionError(
        f"operator {name.text!r} at {name.position} lacks arguments; write {name.text}{example}", name.position
    )
