"""A made benchmark, and a cache of its own for embeddings."""

from __future__ import annotations

import pytest
from made_benchmark import made_benchmark

from aquasurf_ray.analysis.benchmark import Benchmark


@pytest.fixture(scope="session")
def made() -> Benchmark:
    """Sixty functions with results of three seeds."""
    return made_benchmark()
