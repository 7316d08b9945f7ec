"""Python literals in text, as databases hold that were written with `str` or `repr`: lists of numbers or of strings.

Nothing is evaluated. The language is lists and tuples, numbers with nan and inf, strings without backslashes, None,
True and False, and the calls in which NumPy spells arrays and numbers (`array([...], dtype=float32)`,
`np.float64(0.5)`), which mean their first argument. Length and depth are bounded. A flat list of numbers, which is
all but a few of them, is read without looking at its tokens.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

MAX_LENGTH = 1 << 26
MAX_DEPTH = 8

_FLAT = re.compile(r"\s*\[([^\[\]()'\"=]*)\]")
_TOKEN = re.compile(r"""\s*(?:([\[\](),=])|'([^'\\\n]*)'|"([^"\\\n]*)"|([^\s\[\](),='"]+))""")
_CLOSING = {"[": "]", "(": ")", "call": ")"}
_CALLS = re.compile(r"(?:(?:np|numpy)\.)?(?:array|float16|float32|float64)")
_WORDS = {"None": None, "True": True, "False": False}


class LiteralError(ValueError):
    """A text is not one of the literals that are read."""


class _Open(NamedTuple):
    """A bracket that is open: what opened it, and the values so far."""

    kind: str
    values: list[Any]


def read_literal(text: str) -> Any:
    """The value of a literal.

    Raises:
        LiteralError: anything else, with the position where it stops being one.

    >>> read_literal("[0.5, nan, -inf]"), read_literal("['relu(x)', 'max(x,zero(x))']")
    ([0.5, nan, -inf], ['relu(x)', 'max(x,zero(x))'])
    >>> read_literal("__import__('os')")
    Traceback (most recent call last):
        ...
    store.literals.LiteralError: '__import__' at 1 is no number
    """
    if len(text) > MAX_LENGTH:
        raise LiteralError(f"{len(text)} characters are more than {MAX_LENGTH}")
    stack = [_Open("", [])]
    position, may_be_value = 0, True
    text = text.rstrip()
    while position < len(text):
        flat = _FLAT.match(text, position) if may_be_value else None
        numbers = _numbers(flat[1]) if flat else None
        if flat and numbers is not None:
            stack[-1].values.append(numbers)
            position, may_be_value = flat.end(), False
        else:
            position, may_be_value = _step(text, position, stack, may_be_value)
    if len(stack) > 1 or len(stack[0].values) != 1:
        raise LiteralError("the text ends inside a list" if len(stack) > 1 else "there is no value")
    return stack[0].values[0]


def _numbers(body: str) -> list[float] | None:
    """Numbers with commas, or as NumPy prints them, without; None if there is anything else."""
    parts = body.split(",") if "," in body else body.split()
    if parts and not parts[-1].strip():
        parts.pop()  # a comma may end the list
    try:
        return list(map(float, parts))
    except ValueError:
        return None


def _step(text: str, position: int, stack: list[_Open], may_be_value: bool) -> tuple[int, bool]:
    """Takes in one token; returns where the next one begins, and whether it may begin a value."""
    token = _TOKEN.match(text, position)
    if token is None:
        raise LiteralError(f"{text[position : position + 20]!a} at {position + 1} cannot be read")
    mark, word = token[1], token[4]
    if mark in ("]", ")") and mark == _CLOSING.get(stack[-1].kind):
        _close(stack)
        return token.end(), False
    if mark == "," and not may_be_value and len(stack) > 1:
        return token.end(), True
    if not may_be_value or mark not in (None, "[", "("):
        raise LiteralError(f"{token[0].strip()!a:.22} at {position + 1} is not expected")
    follows = text[token.end() : token.end() + 1]
    if word and follows == "=" and stack[-1].kind == "call":
        return token.end() + 1, True  # a keyword: its value is read and not used
    is_call = bool(word and follows == "(" and _CALLS.fullmatch(word))
    if mark or is_call:
        stack.append(_Open("call" if is_call else mark, []))
        if len(stack) > MAX_DEPTH:
            raise LiteralError(f"brackets at {position + 1} are nested deeper than {MAX_DEPTH}")
        return token.end() + is_call, True
    stack[-1].values.append(_value(token, stack[-1]))
    return token.end(), False


def _close(stack: list[_Open]) -> None:
    kind, values = stack.pop()
    if kind == "call" and not values:
        raise LiteralError("an array or a number is empty")
    stack[-1].values.append(values[0] if kind == "call" else values)


def _value(token: re.Match[str], inside: _Open) -> Any:
    if token[4] is None:
        return token[2] if token[2] is not None else token[3]
    word = token[4]
    if word in _WORDS:
        return _WORDS[word]
    try:
        return float(word)
    except ValueError:
        if inside.kind == "call" and inside.values:
            return word  # dtype=float32
        raise LiteralError(f"{word!a:.22} at {token.start(4) + 1} is no number") from None
