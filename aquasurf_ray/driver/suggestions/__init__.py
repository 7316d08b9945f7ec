"""Suggestions: the surrogate as the driver uses it."""
