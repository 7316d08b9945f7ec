"""Operators applied to blocks of rows: the step that `enumeration` and `evaluation` share.

A row has the values of one function on the padded sample, shape (1024,). A function with an undefined sub-expression is
undefined itself, even where the outer operator ignores its argument, because a network that uses it fails.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nan

from aquasurf_ray.activations.identity import apply
from aquasurf_ray.activations.registry import Operator
from aquasurf_ray.cpu_threads import torch_threads

# Rows of 1,024 points: 256 KB of float64, which fits a core's cache, and 32,768 numbers, the most that PyTorch gives to
# one thread whatever their number. Split among threads, an operation could round differently at the seams.
BLOCK_ROWS = 32


# The number of threads belongs to the process: two blocks that overlap could leave it at one for good.
_one_at_a_time = threading.RLock()


@contextmanager
def single_threaded_operations() -> Iterator[None]:
    """Prevent PyTorch from splitting an operation: it could round differently at the seams, and where trainings keep
    the cores busy, each part waits for the slowest one."""
    with _one_at_a_time, torch_threads(1):
        yield


def apply_to_block(entry: Operator, arguments: Sequence[Tensor], undefined: Tensor) -> Tensor:
    """Return the values of an operator at n rows of each argument, shape (n, 1024); NaN in undefined rows.

    Args:
        undefined: whether an argument of a row is undefined, bool of shape (n,). Rows at which the operator itself
            fails are added to it.
    """
    if entry.built_in:
        values = entry.function(*arguments)
    else:
        values = arguments[0].clone()
        # A user-defined operator may not really be elementwise, so it gets one row at a time.
        for i, row in enumerate(zip(*arguments, strict=True)):
            found = None if undefined[i] else apply(entry.function, *row, name=entry.name)
            if found is None:
                undefined[i] = True
            else:
                values[i] = found
    return values.masked_fill_(undefined[:, None], nan) if undefined.any() else values
