"""Predictors: the distances between candidates, and the score that each is expected to have.

A predictor combines a space (the UMAP map or a metric space) with a regressor. It stores no results: it receives the
trained candidates with their scores, and returns the expected score of every candidate and its merit, by which the
policy chooses. Scores and merits are the same, except for ensembles and for acquisition functions that take uncertainty
into account.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from aquasurf_ray.surrogate.batches import Balances, BelievingProcess, fit_mixtures
from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import Acquisition, GaussianProcess, Kernel, merit
from aquasurf_ray.surrogate.metric_space import MetricSpace
from aquasurf_ray.surrogate.regressors import Regressor, make_regressor, weighted_means

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]

N_LANDMARKS = 32
_N_FOR_GAP = 500  # candidates, spread evenly: the median gap needs no more, and each one costs a row of distances


@dataclass(frozen=True, eq=False)
class Prediction:
    """The expected scores and merits of all candidates, float64 [n], higher is better; NaN where not placed."""

    scores: Scores
    merits: Scores


class Predictor(Protocol):
    """The distances between candidates, and their expected scores.

    `placed` bool [n] marks the candidates that have a place on the map or in the space; `version` identifies the map or
    the space by its content; `gap` is the typical distance between neighbours.
    """

    @property
    def placed(self) -> Mask: ...

    @property
    def version(self) -> str: ...

    @property
    def gap(self) -> float: ...

    def nearest(self, others: Indices) -> Scores:
        """Return the distance of each candidate to the nearest other, [n]; infinite without others, NaN where not
        placed."""
        ...

    def distances(self, candidates: Indices, others: Indices) -> Scores:
        """Return the distances of candidates [k] to others [m], float64 [k, m]; all must be placed."""
        ...

    def predict(self, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """Predict from the results of placed candidates [m], m >= 1; the scores must be finite.

        `counts` is the number of trainings that each score is the mean of [m], by default one. Only a Gaussian process
        has a use for it, whose noise is smaller for a mean.
        """
        ...


class MapPredictor:
    """A regressor on the coordinates of an embedding.

    Args:
        embedding: the map of the candidates.
        make: returns a new regressor for every fit.
        acquisition: the acquisition function, which gives the merits; other than "mean" only with a Gaussian process.
    """

    def __init__(self, embedding: Embedding, make: Callable[[], Regressor], acquisition: Acquisition = "mean") -> None:
        _check_acquisition(acquisition)
        self.embedding = embedding
        self.placed = embedding.placed
        self.version = embedding.version
        self._make = make
        self._acquisition = acquisition
        self._points = np.asarray(embedding.coordinates, dtype=np.float64)
        if not isinstance(make(), GaussianProcess) and acquisition != "mean":
            raise SurrogateError(f"acquisition '{acquisition}' needs a regressor with an uncertainty: gp")

    @cached_property
    def gap(self) -> float:
        """The median distance of a point to its nearest neighbour; 0 for fewer than two."""
        points = self._points[self.placed]
        return float(np.median(cKDTree(points).query(points, k=2)[0][:, 1])) if len(points) > 1 else 0.0

    def nearest(self, others: Indices) -> Scores:
        """See `Predictor`."""
        distances = np.full(len(self.placed), np.nan)
        tree = cKDTree(self._points[others]) if len(others) else None
        distances[self.placed] = np.inf if tree is None else tree.query(self._points[self.placed])[0]
        return distances

    def distances(self, candidates: Indices, others: Indices) -> Scores:
        """See `Predictor`."""
        return np.asarray(cdist(self._points[candidates], self._points[others]), dtype=np.float64)

    def predict(self, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor`."""
        regressor = self._make().fit(self._points[known], scores)
        expected, merits = (np.full(len(self.placed), np.nan) for _ in range(2))
        points = self._points[self.placed]
        if self._acquisition == "mean":
            expected[self.placed] = regressor.predict(points)
            return Prediction(expected, expected)
        mean, deviation = regressor.predict_with_deviation(points)
        best = float(scores.max())
        expected[self.placed], merits[self.placed] = mean, merit(self._acquisition, mean, deviation, best)
        return Prediction(expected, merits)


class MetricPredictor:
    """A regressor on the distances of a metric space; the kinds are those of `METRIC_REGRESSORS`.

    Args:
        space: the space of the candidates.
        regress: the regressor.
    """

    def __init__(self, space: MetricSpace, regress: MetricRegressor) -> None:
        self.space = space
        self.placed = space.known
        self._regress = regress

    @property
    def version(self) -> str:
        """The version of the space."""
        return self.space.version

    @cached_property
    def gap(self) -> float:
        """The median distance of a candidate to its nearest neighbour, among up to 500 candidates; 0 for fewer than
        two.
        """
        placed = np.flatnonzero(self.placed)
        if len(placed) < 2:
            return 0.0
        asked = placed[np.linspace(0, len(placed) - 1, min(len(placed), _N_FOR_GAP)).astype(np.int64)]
        rows = self.space.distances(asked)
        rows[np.arange(len(asked)), asked] = np.inf
        return float(np.median(rows[:, placed].min(axis=1)))

    def nearest(self, others: Indices) -> Scores:
        """See `Predictor`."""
        rows = self.space.distances(others)
        distances: Scores = np.asarray(rows.min(axis=0, initial=np.inf), dtype=np.float64)
        distances[~self.placed] = np.nan
        return distances

    def distances(self, candidates: Indices, others: Indices) -> Scores:
        """See `Predictor`."""
        return np.asarray(self.space.between(candidates, others), dtype=np.float64)

    def believer(self, known: Indices, scores: Scores, counts: Indices | None = None) -> BelievingProcess | None:
        """Return a process for the suggestions of a whole batch; None for regressors that have none."""
        regress = self._regress
        if not isinstance(regress, MetricProcess) or regress.acquisition == "mean":
            return None
        return BelievingProcess(
            self.space, known, scores, regress.kernel, counts, regress.mixtures(self.space), regress.acquisition
        )

    def predict(self, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor`."""
        prediction = self._regress(self.space, known, scores, counts)
        for values in (prediction.scores, prediction.merits):
            values[~self.placed] = np.nan
        return prediction


class MetricRegressor(Protocol):
    """A regressor on the distances of a metric space."""

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`."""
        ...


@dataclass(frozen=True)
class MetricNeighbors:
    """The mean of the k nearest candidates' scores, weighted by 1/distance."""

    k: int = 3

    def __post_init__(self) -> None:
        if self.k < 1:
            raise SurrogateError(f"k is {self.k}; nearest neighbours need at least 1")

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`."""
        rows = space.distances(known)
        nearest = _smallest(rows, min(self.k, len(known)))
        distances = np.take_along_axis(rows, nearest, axis=0).T.astype(np.float64)
        expected = weighted_means(distances, scores[nearest.T])
        return Prediction(expected, expected)


@dataclass(frozen=True)
class MetricProcess:
    """A Gaussian process with the kernel exp(-d / l).

    Args:
        acquisition: the acquisition function, which gives the merits.
        balances: shares of the first of two features, from which the marginal likelihood chooses; empty for the balance
            of the space.
        weights: factors of the last feature, from which the marginal likelihood chooses; empty for that of the space.
    """

    acquisition: Acquisition = "mean"
    balances: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    kernel: Kernel = "exponential"

    def __post_init__(self) -> None:
        _check_acquisition(self.acquisition)
        if self.balances and self.weights:
            raise SurrogateError("a process chooses either the balance of two features or the weight of the last")
        if self.balances and not all(0 <= balance <= 1 for balance in self.balances):
            raise SurrogateError(f"balances are shares between 0 and 1, got {self.balances}")

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`."""
        process, rows = self.fitted(space, known, scores, counts)
        if self.acquisition == "mean":
            expected = process.predict_distances(rows)
            return Prediction(expected, expected)
        mean, deviation = process.predict_distances_with_deviation(rows)
        return Prediction(mean, merit(self.acquisition, mean, deviation, float(scores.max())))

    def fitted(
        self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None
    ) -> tuple[GaussianProcess, NDArray[np.float32]]:
        """Return the process with the largest marginal likelihood, and the distances [m, n] that it predicts from."""
        balances, process = fit_mixtures(space, self.mixtures(space), known, scores, counts, self.kernel)
        return process, space.distances(known, balances)

    def mixtures(self, space: MetricSpace) -> list[Balances]:
        """Return the balances to choose from; only those of the space where there is nothing to choose.

        With `weights`, the balance of the other features stays that of the space.
        """
        if self.weights:
            return [(*space.balances[:-1], weight) for weight in self.weights]
        if self.balances and len(space.features) == 2:
            return [(share, 1 - share) for share in self.balances]
        return [space.balances]


@dataclass(frozen=True)
class MetricVectors:
    """Support vectors with the kernel exp(-d / median) on standardised scores, with scikit-learn's defaults."""

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`."""
        from sklearn.svm import SVR

        # Each feature's distances have median 1, so the median of their sum is near the sum of the balances.
        similarity = np.exp(-space.distances(known).astype(np.float64) / sum(space.balances))
        deviation = float(scores.std()) or 1.0
        machine = SVR(kernel="precomputed").fit(similarity[:, known], (scores - scores.mean()) / deviation)
        machine_weights = np.zeros(len(known))
        machine_weights[machine.support_] = machine.dual_coef_[0]
        expected = scores.mean() + deviation * (machine_weights @ similarity + machine.intercept_[0])
        return Prediction(expected, expected)


class MetricForest:
    """A random forest on the distances to landmarks, 32 candidates drawn once (a dissimilarity representation, Pekalska
    and Duin 2002), separately by each feature.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`."""
        vectors = _landmark_distances(space)
        expected = make_regressor("rfr", self._seed).fit(vectors[known], scores).predict(vectors)
        return Prediction(expected, expected)


def _landmark_distances(space: MetricSpace) -> Scores:
    vectors = []
    for feature in space.features:
        known = np.flatnonzero(feature.known)
        # The landmarks belong to the space, not to a forest: every seed sees the same columns.
        drawn = np.random.default_rng(0).permutation(len(known))[:N_LANDMARKS]
        vectors += [feature.of(int(i)) for i in np.sort(known[drawn])]
    return np.stack(vectors, axis=1).astype(np.float64)


def _smallest(rows: NDArray[np.float32], k: int) -> Indices:
    """Return the k rows with the smallest values in each column, [k, n], ascending; of equal values the first row."""
    rest = rows.copy()
    chosen = np.empty((k, rows.shape[1]), dtype=np.int64)
    columns = np.arange(rows.shape[1])
    for place in range(k):
        chosen[place] = rest.argmin(axis=0)
        rest[chosen[place], columns] = np.inf
    return chosen


def _check_acquisition(acquisition: str) -> None:
    if acquisition not in get_args(Acquisition):
        raise SurrogateError(f"acquisition is {acquisition!r}; choose one of {', '.join(get_args(Acquisition))}")
