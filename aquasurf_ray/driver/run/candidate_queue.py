"""Queues of what is computed of candidates before they are trained, in batches that take about a second, with retries.
There is one queue for spectra and, in a run that limits the cost, one for costs.

A batch that failed is repeated one function at a time, on another worker where there is one. A function that fails
alone too often stays without for the rest of this session: without a spectrum, the surrogate knows it by its outputs;
without a cost, it is not suggested.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from aquasurf_ray.store import FunctionRecord

FIRST_LIMIT = 3600.0
SHORTEST_LIMIT = 60.0
PATIENCE = 30.0


class CandidateQueue:
    """The spectra, or the costs, of one run's candidates.

    Args:
        missing: returns the candidates that are still without, in order.
        failed: gets the functions that stay without from now on.
        max_attempts: failures of a function alone after which it stays without.
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

    def limit(self, n: int) -> float:
        """Return the seconds that a batch of `n` may take: thirty times the time so far, and an hour at first."""
        return FIRST_LIMIT if self._seconds is None else max(SHORTEST_LIMIT, PATIENCE * self._seconds * n)

    def done(self, functions: Sequence[FunctionRecord], seconds: float) -> None:
        """Take note that these are stored; they took `seconds` in all."""
        self._under_way.difference_update(function.id for function in functions)
        self._seconds = seconds / len(functions)

    def failed(self, functions: Sequence[FunctionRecord], slot: int) -> list[FunctionRecord]:
        """Take note that the worker failed on these; return the functions that stay without from now on."""
        self._under_way.difference_update(function.id for function in functions)
        final = []
        for function in functions:
            failures = self._failed_on.setdefault(function.id, [])
            if len(functions) == 1:
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
    return max(1, min(affordable, math.ceil(n_open / n_workers), 64))
