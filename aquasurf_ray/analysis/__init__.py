"""Benchmarks that make search algorithms comparable without training, and searches replayed on them.

Knows the expression language, the surrogate and the store's records; no Ray, no SQL. The way through it:

    store | file -> Benchmark -> make_policy, simulate -> Trace -> what is compared
"""
