"""Python's arithmetic as nested calls: `x*sigmoid(x)` is read as `mul(x,sigmoid(x))`.

    sum      = product { ("+" | "-") product }
    product  = power { ("*" | "/") power }, with signs
    power    = value [ ("**" | "^") power ], with signs
    value    = number | name | name "(" sum { "," sum } ")" | "(" sum ")"

Names may have the module that Python finds them in, `torch.tanh(x)`. As in Python, `-x**2` is `-(x**2)`. The reader
keeps its own stack, as the parser of the language does.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.registry import shortened

BINARY = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "^": "pow"}
MINUS = "negative"
STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "sign": 3, "**": 4, "^": 4}
RIGHT = frozenset({"**", "^", "sign"})  # operators that bind from the right: x**2**3 is x**(2**3)
CLOSE = frozenset({")", ","})
OPEN = frozenset({"(", "call"})

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(rf"\s*({_NUMBER}|(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*|\*\*|[-+*/^(),])")
_OPERATOR = re.compile(rf"(?:(?:^|(?<=[(,]))\s*-)?{_NUMBER}|([-+*/^]|[A-Za-z_]\w*\.(?=[A-Za-z_]))")
_MARK = re.compile(r"[-+*/^]|[A-Za-z_]\.")
_PLAIN_NUMBER = re.compile(rf"-?{_NUMBER}")


class _Waiting(NamedTuple):
    """An operator whose right side is being read, or an open bracket: its kind, the name of a called function, where it
    is, and how many values were known before it."""

    kind: str
    name: str
    position: int
    n_before: int


def prefixed(text: str) -> str:
    """Return a text in Python's arithmetic as nested calls; a text without an arithmetic operator as it is.

    Raises:
        ExpressionError: the text is not arithmetic; `position` is the 1-based column.

    >>> prefixed("x*sigmoid(x)"), prefixed("-x**2 + 1")
    ('mul(x,sigmoid(x))', 'add(negative(pow(x,2)),1)')
    >>> prefixed("mul(-2, x)")
    'mul(-2, x)'
    """
    if not isinstance(text, str) or not _MARK.search(text):  # nearly all texts, of which a space has millions
        return text
    if not any(found.group(1) for found in _OPERATOR.finditer(text)):
        return text
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._values: list[str] = []
        self._waiting: list[_Waiting] = []

    def read(self) -> str:
        is_value_next, end = True, 0
        while found := _TOKEN.match(self._text, end):
            mark, position, end = found.group(1), found.start(1) + 1, found.end()
            take = self._begin_value if is_value_next else self._end_value
            is_value_next = take(mark, position)
            if mark not in OPEN | {")"} and self._is_call(mark, end):
                end = self._text.index("(", end) + 1
                self._values.pop()
                name = mark.rpartition(".")[2]
                self._waiting.append(_Waiting("call", name, position, len(self._values)))
                is_value_next = True
        if rest := self._text[end:].strip():
            position = self._text.index(rest, end) + 1
            raise ExpressionError(
                f"unexpected {shortened(rest[0])} at {position}; write names, numbers and + - * / **", position
            )
        if is_value_next:
            raise ExpressionError(
                f"an expression ends at {len(self._text) + 1} where a value is missing; add one", end + 1
            )
        self._apply(0)
        if self._waiting:
            at = self._waiting[-1].position
            raise ExpressionError(f"the bracket at {at} is not closed; add ')'", at)
        return self._values[0]

    def _is_call(self, mark: str, end: int) -> bool:
        return (mark[0].isalpha() or mark[0] == "_") and self._text[end:].lstrip().startswith("(")

    def _begin_value(self, mark: str, position: int) -> bool:
        """Take a mark where a value begins; return whether a value must still follow."""
        if mark in ("-", "+"):
            if mark == "-":
                self._waiting.append(_Waiting("sign", "", position, len(self._values)))
            return True
        if mark == "(":
            self._waiting.append(_Waiting("(", "", position, len(self._values)))
            return True
        if mark in BINARY or mark in CLOSE:
            raise ExpressionError(
                f"unexpected {shortened(mark)} at {position}, where a value should be; add one before it", position
            )
        self._values.append(mark.rpartition(".")[2] if mark[0].isalpha() else mark)
        return False

    def _end_value(self, mark: str, position: int) -> bool:
        """Take a mark after a value; return whether a value must follow it."""
        if mark in BINARY:
            self._apply(STRENGTH[mark] + (mark in RIGHT))
            self._waiting.append(_Waiting(mark, "", position, len(self._values)))
            return True
        if mark not in CLOSE:
            text = f"unexpected {shortened(mark)} at {position}, where an operator should be; add + - * / or **"
            raise ExpressionError(text, position)
        self._apply(0)
        if not self._waiting or (mark == "," and self._waiting[-1].kind != "call"):
            where = "which no bracket opens" if mark == ")" else "outside of an operator's brackets"
            raise ExpressionError(f"unexpected {shortened(mark)} at {position}, {where}; remove it", position)
        if mark == ",":
            return True
        bracket = self._waiting.pop()
        if bracket.kind == "call":
            arguments = self._values[bracket.n_before :]
            self._values[bracket.n_before :] = [f"{bracket.name}({','.join(arguments)})"]
        return False

    def _apply(self, strength: int) -> None:
        """Apply the waiting operators that bind at least as strongly, back to the last open bracket."""
        while self._waiting and self._waiting[-1].kind not in OPEN and STRENGTH[self._waiting[-1].kind] >= strength:
            operator, right = self._waiting.pop().kind, self._values.pop()
            if operator == "sign":
                is_number = _PLAIN_NUMBER.fullmatch(right) and not right.startswith("-")
                self._values.append(f"-{right}" if is_number else f"{MINUS}({right})")
            else:
                self._values.append(f"{BINARY[operator]}({self._values.pop()},{right})")
