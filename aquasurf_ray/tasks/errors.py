"""The exceptions of this room."""

from __future__ import annotations


class TaskError(ValueError):
    """A task is unknown or not well formed, or its data cannot be loaded."""


class UnknownTask(TaskError):
    """No task has this name; no code of the user's own has failed."""


class ModelFails(TaskError):
    """An existing model fails on the inputs that it is tried on."""


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise TaskError with the field and its value if the condition does not hold."""
    if not condition:
        raise TaskError(f"{name} must be {expected}, got {value!r}")
