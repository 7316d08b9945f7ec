"""The analysis room's exception family: every error that this room raises on purpose is an `AnalysisError`."""

from __future__ import annotations


class AnalysisError(ValueError):
    """A request that cannot be analysed; the text names the value received."""


class BenchmarkError(AnalysisError):
    """A benchmark is not well formed, cannot be read, or lacks the requested data."""
