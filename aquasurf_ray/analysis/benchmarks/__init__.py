"""Benchmarks: a whole space with its results and features, which replaces training in a replay."""
