"""Linear algebra on one thread, for matrices so small that waking other threads costs more than they save.

A suggestion makes hundreds of small products. With the threads of all cores, each of them waits for the slowest thread:
measured with 150 results of 600 candidates on two cores, 70 ms and 90 ms of processor time for a suggestion instead of
40 and 16, and seconds where trainings keep the cores busy, which then wait for the threads that spin.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# The number of threads belongs to the process: two limits that overlap would leave it at one for good.
_one_at_a_time = threading.RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS use one thread."""
    with _one_at_a_time, _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    # Looking for the loaded libraries takes milliseconds, so only once; NumPy's and SciPy's are loaded by then.
    import scipy.linalg  # noqa: F401 - for its BLAS

    return ThreadpoolController()
