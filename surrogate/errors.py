"""The surrogate room's exception family: every error that this room raises on purpose is a `SurrogateError`."""

from __future__ import annotations


class SurrogateError(ValueError):
    """The surrogate was asked for something that its arguments do not allow; the text names the value received."""
