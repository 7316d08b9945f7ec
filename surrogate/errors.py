"""The surrogate room's exception family: every error that this room raises on purpose is a `SurrogateError`."""

from __future__ import annotations


class SurrogateError(ValueError):
    """The arguments do not allow what was requested of the surrogate; the text names the value received."""


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise SurrogateError unless a setting has one of its allowed values."""
    if value not in allowed:
        raise SurrogateError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
