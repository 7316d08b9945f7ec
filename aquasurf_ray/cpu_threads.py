"""The CPU threads that PyTorch computes with: a rule for workers.

Commands that train or compute a spectrum in the user's own process follow it, too, so that they take as long as a
worker would, and leave the other cores alone.

This module imports PyTorch only to set its threads, because the settings' defaults are read without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

CPUS_PER_WORKER = 1.0


def threads_of(cpus: float) -> int:
    """Return the number of threads of a worker with so many CPU cores; half a core still needs one.

    >>> threads_of(0.5), threads_of(2.5)
    (1, 2)
    """
    return max(1, int(cpus))


WORKER_THREADS = threads_of(CPUS_PER_WORKER)


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let PyTorch compute with n threads on a CPU, and afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
