"""Searches replayed on benchmarks: algorithms, simulation, measures and comparisons."""
