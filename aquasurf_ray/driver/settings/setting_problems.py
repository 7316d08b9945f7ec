"""Texts about wrong settings: the setting, the rule and the value in one line, from Pydantic's first error.

Pydantic checks the settings of a run, and Typer has it check the other options of a command, so both read alike. This
file needs no import of Pydantic, which takes as long to load as the rest of a command's help.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

RULES = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "greater_than": "must be greater than {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than": "must be less than {lt:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
}
"""The rules by Pydantic's type of error, in the words of our own errors; other errors keep Pydantic's words."""


def problem_text(errors: Sequence[Any], known: Sequence[str]) -> str:
    """Return the first of the errors about settings, of which those in `known` exist."""
    problem = errors[0]
    if not problem["loc"] and problem["type"] == "value_error":  # several settings together: the message names them
        return _rule(problem)
    # A number among the parts is a place in a list.
    key = ".".join(part for part in problem["loc"] if isinstance(part, str)) or "config"
    if problem["type"] == "extra_forbidden":
        close = get_close_matches(key, known, n=1)
        return f"unknown key '{key}'; " + (
            f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(known)}"
        )
    if problem["type"] == "missing":
        return f"'{key}' is missing; add it"
    return value_text(key.replace("_", "-"), problem)


def value_text(name: str, problem: Any) -> str:
    """Return what is wrong with the value of one setting or option.

    >>> value_text("workers", {"type": "int_parsing", "msg": "", "input": "two"})
    "workers must be a whole number, got 'two'"
    """
    rule = _rule(problem)
    separator = " " if rule.startswith("must ") else ": "
    # Our own messages may name the part of the value that is wrong; Pydantic's never do.
    return f"{name}{separator}{rule}" + ("" if ", got " in rule else f", got {problem['input']!r}")


def _rule(problem: Any) -> str:
    if problem["type"] in RULES:
        return RULES[problem["type"]].format(**problem.get("ctx", {}))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if " is not one of " in message:  # Typer's, about a choice
        choices = message.partition(" is not one of ")[2].rstrip(".").replace("'", "")
        return f"must be one of {choices}"
    if message.startswith("Input should "):
        return f"must {message.removeprefix('Input should ')}"
    return message[0].lower() + message[1:]
