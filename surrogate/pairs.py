"""Candidates that are pairs: a function, and the value of one further input, such as the logarithm of a learning rate.

Format: n functions and r values make n·r candidates; candidate i·r + j is function i with value j, so that pairs keep
their numbers when functions are added after the others. The distance of two pairs is the distance of their functions
plus w times that of their values. So the kernel exp(-d / l) of a Gaussian process is the product of one over functions
and one over values: a result says something about the same function with another value, and about similar functions
with the same value. The process chooses w by its marginal likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aquasurf_ray.surrogate.metric_space import Floats, Indices, Mask, MetricSpace, PairwiseDistances, content_digest

WEIGHTS = (0.5, 0.25, 1.0, 2.0)
"""The values of w, relative to the median distance between functions, to choose from. The first one holds until results
with several values tell them apart: another value counts as half of another function."""


class DistancesOfPairs(PairwiseDistances):
    """The distances between the functions of pairs, by one feature.

    Args:
        of_functions: the distances between functions.
        n_values: the number of values.
    """

    def __init__(self, of_functions: PairwiseDistances, n_values: int) -> None:
        self._of_functions, self._n_values = of_functions, n_values
        self.known: Mask = np.repeat(of_functions.known, n_values)

    @property
    def version(self) -> str:
        """See `PairwiseDistances`."""
        return content_digest(f"{self._of_functions.version} {self._n_values}")

    def of(self, candidate: int) -> Floats:
        """See `PairwiseDistances.of`; 0 to the other pairs of the same function."""
        return np.repeat(self._of_functions.of(candidate // self._n_values), self._n_values)

    def between(self, candidates: Indices, others: Indices) -> Floats:
        """See `PairwiseDistances.between`."""
        return self._of_functions.between(candidates // self._n_values, others // self._n_values)

    def prepare(self, candidates: Indices) -> None:
        """See `PairwiseDistances.prepare`."""
        self._of_functions.prepare(np.unique(candidates // self._n_values))


class DistancesOfValues(PairwiseDistances):
    """The distances between the values of pairs, relative to the median distance between two different values.

    Args:
        values: the values [r], at least two different ones.
        known: bool [n·r], the pairs whose function has a feature: a value alone gives no candidate a place.
    """

    def __init__(self, values: Sequence[float], known: Mask) -> None:
        self.known = known
        apart = np.abs(np.subtract.outer(values, values))
        self._rows = (apart / np.median(apart[apart > 0])).astype(np.float32)
        self._version = content_digest(f"values {[float(value) for value in values]} {len(known)}")

    @property
    def version(self) -> str:
        """See `PairwiseDistances`."""
        return self._version

    def of(self, candidate: int) -> Floats:
        """See `PairwiseDistances.of`."""
        n_values = len(self._rows)
        return np.tile(self._rows[candidate % n_values], len(self) // n_values)

    def between(self, candidates: Indices, others: Indices) -> Floats:
        """See `PairwiseDistances.between`."""
        n_values = len(self._rows)
        return np.asarray(self._rows[np.ix_(candidates % n_values, others % n_values)])


def space_of_pairs(
    features: Sequence[PairwiseDistances], balances: Sequence[float], values: Sequence[float]
) -> MetricSpace:
    """Return the metric space of pairs: that of functions by these features, with the values as the last feature."""
    of_functions = [DistancesOfPairs(feature, len(values)) for feature in features]
    known: Mask = np.logical_or.reduce([feature.known for feature in of_functions])
    return MetricSpace([*of_functions, DistancesOfValues(values, known)], (*balances, WEIGHTS[0]))
