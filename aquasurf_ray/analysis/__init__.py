"""Benchmarks that make search algorithms comparable without training, and searches replayed on them.

Knows the expression language, the surrogate and the store's records; no Ray, no SQL. The way through it:

    store | file -> Benchmark -> make_policy, simulate -> Trace -> what is compared
"""

from aquasurf_ray.analysis.benchmark import Benchmark, load_benchmark, write_benchmark
from aquasurf_ray.analysis.errors import AnalysisError, BenchmarkError
from aquasurf_ray.analysis.search_algorithms import ALGORITHMS, make_policy
from aquasurf_ray.analysis.simulation import Trace, draw_candidates, simulate

__all__ = [
    "ALGORITHMS",
    "AnalysisError",
    "Benchmark",
    "BenchmarkError",
    "Trace",
    "draw_candidates",
    "load_benchmark",
    "make_policy",
    "simulate",
    "write_benchmark",
]
