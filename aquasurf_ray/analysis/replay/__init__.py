"""Searches replayed on benchmarks: algorithms, simulation, measures, comparisons and experiments."""
