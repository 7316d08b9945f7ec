"""The surrogate room's exception family: every error that this room raises on purpose is a `SurrogateError`."""

from __future__ import annotations


class SurrogateError(ValueError):
    """The arguments do not allow what was requested of the surrogate; the text names the value received."""
