"""Search algorithms of a user's own, in a module that Ray's workers can import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aquasurf_ray.analysis.benchmark import Benchmark
from surrogate.errors import SurrogateError
from surrogate.policy import Policy, Suggestion


class LastFirst(Policy):
    """Takes the open candidates from the last to the first."""

    def __init__(self, benchmark: Benchmark, seed: int) -> None:
        self._open = set(range(len(benchmark)))

    def observe(self, candidate: int, score: float | None) -> None:
        self._open.discard(candidate)

    def suggest(self, pending: Iterable[int] = frozenset(), allowed: Any = None) -> Suggestion | None:
        return Suggestion(max(self._open - set(pending)), None, 1, (), "")


class Broken(LastFirst):
    """Fails at its first suggestion."""

    def suggest(self, pending: Iterable[int] = frozenset(), allowed: Any = None) -> Suggestion | None:
        raise ZeroDivisionError("by hand")


def refused(benchmark: Benchmark, seed: int) -> Policy:
    raise SurrogateError("k is 0; nearest neighbours need at least 1")
