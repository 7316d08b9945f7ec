"""Benchmarks: a whole space with its results and features, which answers in place of training."""
