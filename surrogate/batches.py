"""Many suggestions from one fit: a Gaussian process that takes predicted scores for results, one block after the other.

A result that equals the expected value leaves the expectations of a Gaussian process unchanged and only reduces its
variance around the point (Ginsbourger et al. 2010, "Kriging believer"). So one fit is enough for all suggestions of a
batch and for the pending ones: each further point only reduces the variance of the others,

    var(x) -= k(c, x)² / (k(c, c) + v)          k: the posterior covariance, c: the point believed, v: the noise

which costs a row of the Cholesky factor instead of a new fit. Length and noise are chosen on the results alone, and on
a part of them where there are many. The process learns from at most `MOST_RESULTS` results: one half are the best, the
others an even draw of the rest, so that a batch costs the same after two thousand results and after ten thousand.

Format: n candidates, m results, p points believed; everything by candidate is float64 [n].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from aquasurf_ray.surrogate.gaussian_process import GaussianProcess, Kernel, covariance
from aquasurf_ray.surrogate.metric_space import MetricSpace

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST_RESULTS = 2000
MOST_CHOSEN_ON = 400  # results that length and noise are chosen on
_MORE_NOISE = (1.0, 10.0, 100.0, 1e4)  # factors: a kernel rounded in float32, or not of negative type, may need more


class BelievingProcess:
    """A Gaussian process on a metric space, fitted to results, that can take expected values for results.

    Args:
        space: the space of the candidates.
        known: the candidates with results [m], m >= 1.
        targets: the values of the results [m].
        kernel: see `GaussianProcess`.

    Attributes:
        mean: expected values [n].
        best: the largest target or believed value.
    """

    def __init__(self, space: MetricSpace, known: Indices, targets: Floats, kernel: Kernel = "exponential") -> None:
        chosen = chosen_results(targets, MOST_RESULTS)
        known, targets = known[chosen], targets[chosen]
        self._space, self._kernel = space, kernel
        self._center, self._unit = float(targets.mean()), float(targets.std()) or 1.0
        rows = space.distances(known)
        # The grid takes 24 factorisations of O(m³), so it sees an even draw of the results only.
        drawn = np.linspace(0, len(known) - 1, min(len(known), MOST_CHOSEN_ON)).astype(np.int64)
        grid = GaussianProcess(kernel).fit_distances(rows[np.ix_(drawn, known[drawn])], targets[drawn])
        self._length = grid.length
        similar = self._similar(rows)
        standardised = (targets - self._center) / self._unit
        factor, self._noise = _factor(similar[:, known], grid.noise)
        # With L Lᵀ = K + vI: white = L⁻¹y and explained = L⁻¹k(X, x) give all of s² = |white|² / m, the mean
        # explainedᵀ white, and the variance 1 - |explained|² (Rasmussen and Williams 2006, algorithm 2.1).
        white = solve_triangular(factor, standardised, lower=True, check_finite=False)
        self._explained = solve_triangular(factor, similar, lower=True, overwrite_b=True, check_finite=False)
        self._scale = max(float(white @ white) / len(known), np.finfo(np.float64).tiny)
        self.mean = self._center + self._unit * (white @ self._explained)
        self.best = float(targets.max())
        # In units of s². `believe` only ever subtracts from it.
        self._left = 1.0 - np.einsum("ij,ij->j", self._explained, self._explained)
        self._n_rows = len(known)

    @property
    def deviation(self) -> Floats:
        """The standard deviation of the values without noise, [n]."""
        deviation: Floats = self._unit * np.sqrt(self._scale * np.maximum(self._left, 0.0))
        return deviation

    def believe(self, candidates: Indices) -> None:
        """Take the candidates' expected values for results."""
        if not len(candidates):
            return
        # The posterior covariance of the candidates with all others, and the rows that it adds to the factor.
        above = self._explained[: self._n_rows]
        between = self._similar(self._space.distances(candidates)) - above[:, candidates].T @ above
        factor, _ = _factor(between[:, candidates], self._noise)
        new = solve_triangular(factor, between, lower=True, overwrite_b=True, check_finite=False)
        self._left -= np.einsum("ij,ij->j", new, new)
        self._append(new)
        self.best = max(self.best, float(self.mean[candidates].max()))

    def _append(self, rows: Floats) -> None:
        """Append rows to the factor; memory is allocated for many at once."""
        end = self._n_rows + len(rows)
        if end > len(self._explained):
            room = np.empty((end + max(64, len(rows)), self._explained.shape[1]))
            room[: self._n_rows] = self._explained[: self._n_rows]
            self._explained = room
        self._explained[self._n_rows : end] = rows
        self._n_rows = end

    def _similar(self, distances: NDArray[np.float32]) -> Floats:
        return covariance(self._kernel, distances, self._length)


def chosen_results(targets: Floats, most: int) -> Indices:
    """Return the results to learn from, ascending: all of up to `most`; else half of `most` are the best, and the other
    half an even draw of the rest.

        >>> chosen_results(np.array([5.0, 1.0, 2.0, 9.0, 3.0, 4.0, 0.0, 8.0]), 4).tolist()
        [0, 3, 6, 7]
    """
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(-targets, kind="stable")
    best, others = order[: most // 2], np.sort(order[most // 2 :])
    even = others[np.linspace(0, len(others) - 1, most - len(best)).astype(np.int64)]
    return np.sort(np.concatenate([best, even]))


def _factor(matrix: Floats, noise: float) -> tuple[Floats, float]:
    """Return the lower Cholesky factor of matrix + noise I, and the noise, which is raised until there is a factor."""
    for more in _MORE_NOISE:
        with_noise = matrix.copy()
        with_noise.flat[:: len(matrix) + 1] += more * noise
        try:
            return cholesky(with_noise, lower=True, overwrite_a=True, check_finite=False), more * noise
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError(f"the distances of {len(matrix)} candidates give no positive definite kernel")
