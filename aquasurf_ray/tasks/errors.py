"""The one exception of this room."""

from __future__ import annotations


class TaskError(ValueError):
    """A task is not known, not well formed, or its data cannot be had."""


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raises TaskError, naming the field and what it got, where the condition does not hold."""
    if not condition:
        raise TaskError(f"{name} must be {expected}, got {value!r}")
