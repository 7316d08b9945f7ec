"""Screening: the few of many new functions that are worth a spectrum, by their outputs alone.

A Gaussian process on the distances between outputs learns from the trained functions. New functions are chosen a few
at a time by expected improvement, as if those chosen before had the scores that are expected of them
(`surrogate.batches`), so that they are not all alike. Only distances to trained and to chosen functions are computed.

Format: t trained functions, m new ones; outputs are float32 [., 1000], finite and clipped (`activations.identity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.batches import BelievingProcess
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import expected_improvement
from aquasurf_ray.surrogate.metric_space import MetricSpace, PairwiseDistances
from aquasurf_ray.surrogate.one_thread import one_thread
from aquasurf_ray.surrogate.policy import Scores, normal_ranks

Floats = NDArray[np.float32]

_ROUNDS = 24  # of choices; so many cost little, and each round has few functions that may be alike


class OutputDistances(PairwiseDistances):
    """Euclidean distances between rows, each by one product of a matrix and a vector.

    The subtraction of squares loses digits where rows are nearly equal, which a screening does not mind.
    """

    def __init__(self, rows: Floats) -> None:
        self._rows = rows
        self._squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        self.known = np.ones(len(rows), dtype=np.bool_)
        self._kept: dict[int, Floats] = {}

    @property
    def version(self) -> str:
        """See `PairwiseDistances`; nobody asks for it, because a screening keeps nothing."""
        return ""

    def of(self, candidate: int) -> Floats:
        """Return the distances of one row to all; the caller must not change them."""
        if candidate not in self._kept:
            self._kept[candidate] = self._computed(candidate)
        return self._kept[candidate]

    def _computed(self, candidate: int) -> Floats:
        squares = self._squares + self._squares[candidate] - 2.0 * (self._rows @ self._rows[candidate])
        squares[candidate] = 0.0
        distances: Floats = np.sqrt(np.maximum(squares, 0.0)).astype(np.float32)
        return distances


def screened(trained: NDArray[Any], scores: Sequence[float | None], new: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return the indices of at most n new functions, best first.

    Args:
        trained: the outputs of trained functions [t, 1000].
        scores: their scores, higher is better; None for a function that diverged, which counts as the worst.
        new: the outputs of the new functions [m, 1000].

    Raises:
        SurrogateError: the numbers of functions and scores differ.
    """
    if len(trained) != len(scores):
        raise SurrogateError(f"{len(trained)} trained functions need as many scores, got {len(scores)}")
    finite = [score for score in scores if score is not None]
    n = min(n, len(new))
    if not finite or n == len(new):
        return np.arange(n)  # nothing to learn from, or nothing to choose
    worst = min(finite)
    targets = normal_ranks(np.array([worst if score is None else score for score in scores], dtype=np.float64))
    rows = np.ascontiguousarray(np.concatenate([trained, new]), dtype=np.float32)
    with one_thread():
        return _chosen(rows, targets, n)


def _chosen(rows: Floats, targets: Scores, n: int) -> NDArray[np.int64]:
    """Choose n of the functions that come after those with targets."""
    n_trained = len(targets)
    process = BelievingProcess(MetricSpace([OutputDistances(rows)]), np.arange(n_trained), targets)
    left = np.arange(len(rows)) >= n_trained
    chosen: list[int] = []
    while len(chosen) < n:
        merits = expected_improvement(process.mean, process.deviation, process.best)
        at_once = min(n - len(chosen), max(1, n // _ROUNDS))
        best = np.argsort(np.where(left, -merits, np.inf), kind="stable")[:at_once]
        chosen += (best - n_trained).tolist()
        left[best] = False
        process.believe(best)
    return np.array(chosen, dtype=np.int64)
