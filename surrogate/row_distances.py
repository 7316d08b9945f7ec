"""Distances between rows of features, compiled: where there are thousands of candidates, most of a suggestion's time.

Each distance is the same to the last bit, whatever is computed beside it and on whatever processor: a sum always takes
its terms in the same order, in `LANES` partial sums.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.compilation import keep_compiled
from aquasurf_ray.surrogate.neighbors import Metric

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Kernel = Callable[[Floats, Indices, Indices, bool, Floats], None]

LANES = 64
_AT_ONCE = 16  # rows that stay in a processor's cache while the others pass by
_LEAST_WORK = 2**21  # terms of all sums, below which another thread costs more than it saves


def row_distances(rows: Floats, some: Indices, others: Indices, metric: Metric) -> Floats:
    """Return the distances of some rows [m] to others [k] of the same array, float32 [n, d]; no row is copied.

    Returns:
        float32 [m, k]; NaN or infinite where a row is not finite.

    Raises:
        IndexError: there is no such row.

    >>> rows = np.array([[0, 0], [3, 4], [1, 0]], np.float32)
    >>> row_distances(rows, np.array([0]), np.array([1, 2]), "euclidean").tolist()
    [[5.0, 1.0]]
    """
    rows = np.ascontiguousarray(rows)
    # The compiled loop checks no index; here each becomes one from 0 to n - 1.
    some, others = (np.arange(len(rows))[indices] for indices in (some, others))
    distances = np.empty((len(some), len(others)), dtype=np.float32)
    kernel = _kernel()

    def compute(start: int, end: int) -> None:
        part = np.empty((_AT_ONCE, end - start), dtype=np.float32)
        for first in range(0, len(some), _AT_ONCE):
            kernel(rows, some[first : first + _AT_ONCE], others[start:end], metric == "euclidean", part)
            distances[first : first + _AT_ONCE, start:end] = part[: len(some) - first]

    n_threads = _n_threads()
    n_parts = min(n_threads, 1 + distances.size * rows.shape[1] // _LEAST_WORK)
    if n_parts == 1:
        compute(0, len(others))
    else:
        bounds = np.linspace(0, len(others), n_parts + 1).astype(int).tolist()
        list(_pool(n_threads).map(compute, bounds[:-1], bounds[1:]))
    return np.sqrt(distances, out=distances) if metric == "euclidean" else distances


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, "row-distances")


if hasattr(os, "register_at_fork"):  # a forked process has the pool, but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _n_threads() -> int:
    """Return the number of threads that the process may use, as OMP_NUM_THREADS tells other libraries."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(wanted)) if wanted.isdecimal() and int(wanted) else available


@cache
def _kernel() -> Kernel:
    from numba import njit  # takes a third of a second, which a command without distances need not wait for

    kernel = njit(nogil=True)(_sums)
    keep_compiled([kernel])
    return cast("Kernel", kernel)


def _sums(rows: Floats, some: Indices, others: Indices, squares: bool, sums: Floats) -> None:
    """Compute sums [m, k] over the absolute differences of some rows [m] and others [k], or over their squares."""
    d = rows.shape[1]
    whole = d // LANES * LANES
    lanes = np.empty(LANES, np.float32)
    for i in range(len(others)):
        other = rows[others[i]]
        for k in range(len(some)):
            one = rows[some[k]]
            lanes[:] = 0
            for j in range(0, whole, LANES):
                for lane in range(LANES):
                    difference = other[j + lane] - one[j + lane]
                    lanes[lane] += difference * difference if squares else abs(difference)
            for j in range(whole, d):
                difference = other[j] - one[j]
                lanes[j - whole] += difference * difference if squares else abs(difference)
            total = np.float32(0)
            for lane in range(LANES):
                total += lanes[lane]
            sums[k, i] = total
