"""Regressors of scores on coordinates: weighted nearest neighbours, random forest, support vectors, Gaussian process.

Format: points float [m, 2] (any number of columns works), scores float [m], predictions float64 [n]. Every regressor
works with a single point, and then predicts a constant. A new regressor is a class or factory with `fit` and `predict`
and one line in `REGRESSORS`; scikit-learn is imported only by the regressors that use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.forest import RandomForest
from aquasurf_ray.surrogate.gaussian_process import GaussianProcess

Array = NDArray[np.floating[Any]]
Predictions = NDArray[np.float64]


class Regressor(Protocol):
    """Learns scores at points and predicts them elsewhere, as scikit-learn's regressors do."""

    def fit(self, points: Array, scores: Array) -> Any:
        """Learn from points [m, 2] and their scores [m]; all finite, m >= 1."""

    def predict(self, points: Array) -> Predictions:
        """Return the expected scores at points [n, 2]: float64 [n]."""


class KNeighborsRegressor:
    """The mean of the k nearest points' scores, weighted by 1/distance (the paper's KNR, k = 3).

    A training point gets the mean of its exact hits among the k nearest. With fewer than k training points, all of them
    count. Neighbours of equal score predict exactly that score, without rounding, so that ties stay ties.

    >>> knr = KNeighborsRegressor(k=3).fit(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([1.0, 4.0]))
    >>> knr.predict(np.array([[1.0, 0.0]]))
    array([2.])
    """

    def __init__(self, k: int = 3) -> None:
        if k < 1:
            raise SurrogateError(f"k is {k}; nearest neighbours need at least 1")
        self.k = k

    def fit(self, points: Array, scores: Array) -> Self:
        """Store the points [m, 2] in a k-d tree."""
        points, self._scores = _training_set(points, scores)
        self._tree = cKDTree(points)
        return self

    def predict(self, points: Array) -> Predictions:
        """Return weighted means for points [n, 2]: float64 [n]."""
        neighbors = np.arange(1, min(self.k, len(self._scores)) + 1)  # a list of ranks keeps the second axis at k = 1
        distances, indices = self._tree.query(np.asarray(points, dtype=np.float64), k=neighbors)
        return weighted_means(distances, self._scores[indices])


def weighted_means(distances: Predictions, scores: Predictions) -> Predictions:
    """Return the means [n] of the neighbours' scores [n, k], weighted by 1/distance [n, k], nearest first."""
    nearest = distances[:, :1]
    # relative to the nearest: no overflow for tiny distances, and an exact hit leaves 1 for itself, 0 for others
    weights = np.divide(nearest, distances, out=np.ones_like(distances), where=distances > 0)
    base = scores[:, :1]
    surplus = weights * (scores - base)
    result: Predictions = base[:, 0] + surplus.sum(axis=1) / weights.sum(axis=1)
    return result


class StandardizedRegressor:
    """Another regressor on points and scores that are scaled to mean 0 and deviation 1 (a constant to 0)."""

    def __init__(self, regressor: Regressor) -> None:
        self._regressor = regressor

    def fit(self, points: Array, scores: Array) -> Self:
        """Learn means and deviations, then fit the inner regressor."""
        x, y = _training_set(points, scores)
        self._points, self._scores = _Scale.of(x), _Scale.of(y)
        self._regressor.fit(self._points.shrink(x), self._scores.shrink(y))
        return self

    def predict(self, points: Array) -> Predictions:
        """Return the inner regressor's predictions for points [n, 2] in units of the scores: float64 [n]."""
        return self._scores.expand(self._regressor.predict(self._points.shrink(np.asarray(points, dtype=np.float64))))


@dataclass(frozen=True, eq=False)
class _Scale:
    mean: Predictions
    deviation: Predictions

    @classmethod
    def of(cls, values: Predictions) -> _Scale:
        deviation = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def shrink(self, values: Predictions) -> Predictions:
        return (values - self.mean) / self.deviation

    def expand(self, values: Predictions) -> Predictions:
        return values * self.deviation + self.mean


def _knr(seed: int) -> Regressor:
    return KNeighborsRegressor(k=3)


def _rfr(seed: int) -> Regressor:
    """Return a random forest with scikit-learn's defaults (100 trees), seeded, on one core."""
    return RandomForest(seed)


def _svr(seed: int) -> Regressor:
    """Return RBF support vectors with scikit-learn's defaults (C = 1, epsilon = 0.1) on standardised points and scores.

    Standardising the scores makes epsilon a tenth of their spread; on raw accuracies 0.1 would be most of it.
    """
    from sklearn.svm import SVR

    machine = SVR()
    machine.random_state = seed  # not a setting of SVR, which would draw one from NumPy's global random state
    return StandardizedRegressor(machine)


def _gp(seed: int) -> Regressor:
    """Return a Gaussian process with a Matérn kernel of smoothness 5/2 and noise; it uses no seed."""
    return GaussianProcess("matern52")


REGRESSORS: dict[str, Callable[[int], Regressor]] = {
    "knr": _knr,
    "rfr": _rfr,
    "svr": _svr,
    "gp": _gp,
}


def make_regressor(name: str, seed: int = 0) -> Regressor:
    """Return a new, unfitted regressor of this name.

    Raises:
        SurrogateError: no regressor has that name.
    """
    if name not in REGRESSORS:
        raise SurrogateError(f"unknown regressor {name!r}; choose one of {', '.join(REGRESSORS)}")
    return REGRESSORS[name](seed)


def _training_set(points: Array, scores: Array) -> tuple[Predictions, Predictions]:
    x, y = np.asarray(points, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(x):
        raise SurrogateError(f"points have shape {x.shape}, scores {y.shape}; expected (m, 2) and (m,), m at least 1")
    return x, y
