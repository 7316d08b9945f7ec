"""Gaussian process regression (Rasmussen and Williams 2006, chapters 2 and 5) on distances between points.

    score(x) = mean + deviation * f(x) + noise      f ~ GP(0, s² k(d / l)), noise ~ N(0, s² v / n)

n is the number of trainings that a score is the mean of, 1 unless it is given.
Scores are standardised. The scale s² has a closed form (the profile likelihood's, y'(K + vI)⁻¹y / m); length l and
noise v are the values on a fixed grid with the largest marginal likelihood, so that the fit is neither random nor
iterative. Lengths are relative to the median distance between the training points.

Kernels: "matern52" for Euclidean distances; "exponential", exp(-d / l), which is positive definite for every distance
of negative type (Schoenberg 1938), as are the Euclidean, the Manhattan, and sums of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from aquasurf_ray.surrogate.errors import SurrogateError

Array = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Kernel = Literal["matern52", "exponential"]
Acquisition = Literal["mean", "ucb", "ei"]

LENGTHS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
NOISES = (1e-3, 1e-2, 1e-1, 1.0)
_LAST_NOISES = (10.0, 100.0, 1e4)  # tried after the grid, for distances that are not of negative type


@dataclass(frozen=True, eq=False)
class _Fit:
    """One point of the grid: the lower Cholesky factor of K + vI [m, m], (K + vI)⁻¹y [m], and its likelihood."""

    length: float
    noise: float
    factor: Floats
    weights: Floats
    variance: float
    log_likelihood: float


class GaussianProcess:
    """A Gaussian process whose length and noise are chosen on a grid.

    Args:
        kernel: the kernel of distances.
        lengths: the lengths to choose from, in median distances between training points.
        noises: the noise variances to choose from, in units of s².

    After fitting, `length` (in units of the distances), `noise`, `variance` (s² of the standardised scores) and
    `log_likelihood` (of the standardised scores) have the chosen values.

    >>> process = GaussianProcess(lengths=[0.5], noises=[1e-3])
    >>> process.fit(np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 0.5])).predict(np.array([[1.0], [30.0]]))
    array([0.99940907, 0.5       ])
    """

    def __init__(
        self, kernel: Kernel = "matern52", lengths: Sequence[float] = LENGTHS, noises: Sequence[float] = NOISES
    ) -> None:
        if kernel not in get_args(Kernel):
            raise SurrogateError(f"kernel is {kernel!r}; choose one of {', '.join(get_args(Kernel))}")
        if min(*lengths, *noises) <= 0:
            raise SurrogateError(f"lengths and noises must be positive, got {lengths} and {noises}")
        self.kernel = kernel
        self._lengths = tuple(lengths)
        self._noises = tuple(noises)
        self._points: Floats | None = None

    @property
    def length(self) -> float:
        """The chosen length."""
        return self._fit.length

    @property
    def noise(self) -> float:
        """The chosen noise."""
        return self._fit.noise

    @property
    def variance(self) -> float:
        """The scale s²."""
        return self._fit.variance

    @property
    def log_likelihood(self) -> float:
        """The log marginal likelihood."""
        return self._fit.log_likelihood

    def fit(self, points: Array, scores: Array) -> Self:
        """Learn from points [m, d], by their Euclidean distances, and scores [m]."""
        self._points = np.asarray(points, dtype=np.float64)
        if self._points.ndim != 2:
            raise SurrogateError(f"points have shape {self._points.shape}; expected (m, d)")
        return self.fit_distances(cdist(self._points, self._points), scores)

    def predict(self, points: Array) -> Floats:
        """Return the expected scores at points [n, d]: float64 [n]."""
        if self._points is None:
            raise SurrogateError("the process was fitted to distances; call predict_distances")
        return self.predict_distances(cdist(self._points, np.asarray(points, dtype=np.float64)))

    def predict_with_deviation(self, points: Array) -> tuple[Floats, Floats]:
        """Return the expected scores and the standard deviations of the scores without noise: float64 [n] each."""
        if self._points is None:
            raise SurrogateError("the process was fitted to distances; call predict_distances_with_deviation")
        return self.predict_distances_with_deviation(cdist(self._points, np.asarray(points, dtype=np.float64)))

    def fit_distances(self, distances: Array, scores: Array, counts: NDArray[np.number[Any]] | None = None) -> Self:
        """Learn from distances between the training points [m, m] and their scores [m]; all finite, m >= 1.

        Args:
            counts: how many trainings each score is the mean of [m]; by default one.
        """
        among, y = np.asarray(distances, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if y.ndim != 1 or not len(y) or among.shape != (len(y), len(y)):
            raise SurrogateError(f"distances have shape {among.shape}, scores {y.shape}; expected (m, m) and (m,)")
        self._mean = float(y.mean())
        self._deviation = float(y.std()) or 1.0  # equal scores have no spread to divide by
        shares = _shares(counts, len(y))
        standardised = (y - self._mean) / self._deviation
        unit = _median_distance(among)
        best: _Fit | None = None
        for length in self._lengths:
            similarity = self._covariance(among, length * unit)
            for noise in self._noises:
                fit = _fit(similarity, noise, length * unit, standardised, shares)
                # Of equal likelihoods the first wins, with the shortest length and the least noise.
                if fit is not None and (best is None or fit.log_likelihood > best.log_likelihood):
                    best = fit
        self._fit = best or _noisy_fit(self._covariance(among, unit), unit, standardised, shares)
        return self

    def predict_distances(self, distances: Array) -> Floats:
        """Return the expected scores at points with distances [m, n] to the training points: float64 [n]."""
        # k(x, X) (K + vI)⁻¹ y: Rasmussen and Williams 2006, equation 2.25.
        expected: Floats = self._covariance(distances, self._fit.length).T @ self._fit.weights
        return self._mean + self._deviation * expected

    def predict_distances_with_deviation(self, distances: Array) -> tuple[Floats, Floats]:
        """Return the expected scores and the standard deviations of the scores without noise: float64 [n] each."""
        similarity = self._covariance(distances, self._fit.length)
        expected: Floats = similarity.T @ self._fit.weights
        # Equation 2.26; rounding can leave a variance slightly below zero at a training point.
        explained = solve_triangular(self._fit.factor, similarity, lower=True, overwrite_b=True, check_finite=False)
        variance = self._fit.variance * np.maximum(1.0 - np.einsum("ij,ij->j", explained, explained), 0.0)
        return self._mean + self._deviation * expected, self._deviation * np.sqrt(variance)

    def _covariance(self, distances: Array, length: float) -> Floats:
        return covariance(self.kernel, distances, length)


def covariance(kernel: Kernel, distances: Array, length: float) -> Floats:
    """Return the kernel's values at these distances, float64 of the same shape."""
    if kernel == "exponential":
        # In place, because most of the time is that of the memory.
        values: Floats = np.divide(distances, -length, dtype=np.float64)
        return np.exp(values, out=values)
    scaled = np.asarray(distances, dtype=np.float64) / length
    scaled = scaled * np.sqrt(5.0)  # Rasmussen and Williams 2006, equation 4.17, with nu = 5/2
    return np.asarray((1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled), dtype=np.float64)


def noisy_factor(matrix: Floats, noise: Floats | float) -> Floats | None:
    """Return the lower Cholesky factor of a matrix [m, m] with noise on its diagonal, or None where there is none."""
    with_noise = matrix.copy(order="F")  # LAPACK's order, so that it factors this copy and makes no other
    with_noise[np.diag_indices(len(matrix))] += noise
    # Not positive definite is a normal outcome here: LAPACK reports it as `info`, SciPy's wrapper would raise.
    factor, info = lapack.dpotrf(with_noise, lower=1, clean=1, overwrite_a=1)
    return np.asarray(factor, dtype=np.float64) if info == 0 else None


def merit(acquisition: Acquisition, mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return the values to choose by, [n], in units of scores: the mean; the upper confidence bound, mean + 2
    deviations (Srinivas et al. 2010); or the expected improvement over the best result (Mockus 1975).
    """
    if acquisition == "mean":
        return mean
    if acquisition == "ucb":
        return mean + 2.0 * deviation
    return expected_improvement(mean, deviation, best)


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return the expected improvement over `best` (Mockus 1975), [n]."""
    above = mean - best
    # Without uncertainty there is no z; the improvement is then certain, and `where` below takes it as it is.
    z = np.divide(above, deviation, out=np.zeros_like(above), where=deviation > 0)
    improvement = above * ndtr(z) + deviation * (np.exp(-(z**2) / 2.0) / np.sqrt(2.0 * np.pi))
    return np.asarray(np.where(deviation > 0, improvement, np.maximum(above, 0.0)), dtype=np.float64)


def _fit(similarity: Floats, noise: float, length: float, y: Floats, shares: Floats) -> _Fit | None:
    """Return the fit for one length and noise; None if the matrix is not positive definite."""
    m = len(y)
    factor = noisy_factor(similarity, noise * shares)
    if factor is None:
        return None
    weights, _ = lapack.dpotrs(factor, y, lower=1)
    variance = max(float(y @ weights) / m, np.finfo(np.float64).tiny)
    log_determinant = 2.0 * float(np.log(np.diagonal(factor)).sum())
    # Equation 2.30 with s² at its maximum, which turns the quadratic term into m.
    log_likelihood = -0.5 * (m * np.log(variance) + log_determinant + m * (1.0 + np.log(2.0 * np.pi)))
    return _Fit(length, noise, factor, weights, variance, log_likelihood)


def _noisy_fit(similarity: Floats, length: float, y: Floats, shares: Floats) -> _Fit:
    for noise in _LAST_NOISES:
        fit = _fit(similarity, noise, length, y, shares)
        if fit is not None:
            return fit
    raise SurrogateError(
        f"the distances of {len(y)} points give no positive definite kernel, not even with noise of 10000"
    )


def _shares(counts: NDArray[np.number[Any]] | None, m: int) -> Floats:
    """Return the share of the noise that each score has: 1/n for the mean of n trainings."""
    if counts is None:
        return np.ones(m)
    n = np.asarray(counts, dtype=np.float64)
    if n.shape != (m,) or n.min() < 1:
        raise SurrogateError(f"counts must be {m} numbers of trainings, at least 1 each, got {counts}")
    return 1.0 / n


def _median_distance(among: Floats) -> float:
    """Return the median of the positive distances between different points; 1 where there are none."""
    apart = among[np.triu_indices(len(among), k=1)]
    apart = apart[apart > 0]
    return float(np.median(apart)) if len(apart) else 1.0
