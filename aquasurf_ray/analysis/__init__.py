"""Benchmarks that make search algorithms comparable without training, and searches replayed on them.

Knows the expression language, the surrogate and the store's records; no Ray, no SQL. Names are loaded when first used.
The way through it:

    store | file -> Benchmark -> make_policy, simulate -> Trace -> what is compared
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
    from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark, write_benchmark
    from aquasurf_ray.analysis.errors import AnalysisError, BenchmarkError
    from aquasurf_ray.analysis.replay.algorithms import ALGORITHMS, make_policy
    from aquasurf_ray.analysis.replay.simulation import Trace, draw_candidates, simulate

_MODULES = {
    "ALGORITHMS": "replay.algorithms",
    "AnalysisError": "errors",
    "Benchmark": "benchmarks.benchmark",
    "BenchmarkError": "errors",
    "Trace": "replay.simulation",
    "draw_candidates": "replay.simulation",
    "load_benchmark": "benchmarks.parquet",
    "make_policy": "replay.algorithms",
    "simulate": "replay.simulation",
    "write_benchmark": "benchmarks.parquet",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
