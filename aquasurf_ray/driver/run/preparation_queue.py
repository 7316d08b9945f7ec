"""Queues of the spectra and costs that candidates need before training, in batches of about a second, with retries.
There is one queue for spectra and, in a run that limits the cost, one for costs.

A batch that failed is repeated one function at a time, on another worker if there is one. A function that fails alone
too often is given up for the rest of this session: without a spectrum, the surrogate knows it only by its outputs;
without a cost, it is not suggested.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from aquasurf_ray.store import FunctionRecord

FIRST_LIMIT = 3600.0  # generous, because nothing is known about the duration of a batch yet
SHORTEST_LIMIT = 60.0
PATIENCE = 30.0  # times the duration of the last batch; workers that share a machine vary a lot


class CandidateQueue:
    """The spectra, or the costs, of one run's candidates.

    Args:
        missing: returns the candidates that still lack a spectrum (or a cost), in order.
        failed: the set to which functions that are given up are added.
        max_attempts: the failures of a function alone after which it is given up.
    """

    def __init__(self, missing: Callable[[], list[FunctionRecord]], failed: set[int], max_attempts: int) -> None:
        self._missing = missing
        self._failed = failed
        self._max_attempts = max_attempts
        self._under_way: set[int] = set()
        self._alone: deque[FunctionRecord] = deque()
        self._failed_on: dict[int, list[int]] = {}
        self._seconds: float | None = None

    def next_batch(self, slot: int, others: set[int], n_workers: int) -> list[FunctionRecord]:
        """Return the next batch for a worker, empty when nothing is left; `others` are the other live workers."""
        batch = self._next_alone(slot, others) or self._next_new(n_workers)
        self._under_way.update(function.id for function in batch)
        return batch

    def has_retries(self) -> bool:
        """Return whether functions wait to be repeated alone."""
        return bool(self._alone)

    def limit(self, n: int) -> float:
        """Return the seconds that a batch of `n` may take: thirty times the last duration, and an hour at first."""
        return FIRST_LIMIT if self._seconds is None else max(SHORTEST_LIMIT, PATIENCE * self._seconds * n)

    def done(self, functions: Sequence[FunctionRecord], seconds: float) -> None:
        """Record that these functions are stored, and took `seconds` in total."""
        self._under_way.difference_update(function.id for function in functions)
        self._seconds = seconds / len(functions)

    def failed(self, functions: Sequence[FunctionRecord], slot: int) -> list[FunctionRecord]:
        """Record that the worker failed on these functions, and return those that are given up from now on."""
        self._under_way.difference_update(function.id for function in functions)
        final = []
        for function in functions:
            failures = self._failed_on.setdefault(function.id, [])
            if len(functions) == 1:  # in a larger batch, any of its functions may be to blame
                failures.append(slot)
            if len(failures) < self._max_attempts:
                self._alone.append(function)
            else:
                final.append(function)
        self._failed.update(function.id for function in final)
        return final

    def _next_alone(self, slot: int, others: set[int]) -> list[FunctionRecord]:
        for function in self._alone:
            failed_on = set(self._failed_on[function.id])
            if slot not in failed_on or others <= failed_on:
                self._alone.remove(function)
                return [function]
        return []

    def _next_new(self, n_workers: int) -> list[FunctionRecord]:
        waiting = {function.id for function in self._alone} | self._under_way
        new = [function for function in self._missing() if function.id not in waiting]
        return new[: batch_size(self._seconds, len(new), n_workers)]


def batch_size(seconds_a_function: float | None, n_open: int, n_workers: int) -> int:
    """Return how many candidates to give a worker at once: about one second of work, at most its share of the rest."""
    if seconds_a_function is None:
        return 1
    affordable = int(1.0 / max(seconds_a_function, 1e-3))
    return max(1, min(affordable, math.ceil(n_open / n_workers), 64))  # 64: a lost batch must not cost much
