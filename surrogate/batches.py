"""Many suggestions at once from one fit: a Gaussian process that takes in believed results one block after the other.

To be given a result that is just what it expects leaves a Gaussian process's expectations as they are and makes it
surer around the point (Ginsbourger et al. 2010, "Kriging believer"). So for all suggestions of a batch, and for what is
pending, one fit is enough: each further point only takes from the variance of the others,

    var(x) -= k(c, x)² / (k(c, c) + v)          k: the posterior covariance, c: the point believed, v: the noise

which costs a row of the Cholesky factor in the place of a new fit. Length and noise are those of the results alone; of
many results they are chosen on some. The process learns from at most `MOST_RESULTS`: the best half of so many, and an
even draw of the others, so that a batch costs the same after two thousand results and after ten thousand.

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
_MORE_NOISE = (1.0, 10.0, 100.0, 1e4)


class BelievingProcess:
    """A Gaussian process on a metric space, fitted to results, that can be told to believe in candidates.

    Args:
        space: where the candidates lie.
        known: results' candidates [m], m >= 1.
        targets: their values [m].
        kernel: see `GaussianProcess`.

    Attributes:
        mean: expected values [n].
        best: the largest target, or expected value of a candidate believed in.
    """

    def __init__(self, space: MetricSpace, known: Indices, targets: Floats, kernel: Kernel = "exponential") -> None:
        chosen = chosen_results(targets, MOST_RESULTS)
        known, targets = known[chosen], targets[chosen]
        self._space, self._kernel = space, kernel
        self._center, self._unit = float(targets.mean()), float(targets.std()) or 1.0
        rows = space.distances(known)
        some = np.linspace(0, len(known) - 1, min(len(known), MOST_CHOSEN_ON)).astype(np.int64)
        grid = GaussianProcess(kernel).fit_distances(rows[np.ix_(some, known[some])], targets[some])
        self._length = grid.length
        similar = self._similar(rows)
        standardised = (targets - self._center) / self._unit
        factor, self._noise = _factor(similar[:, known], grid.noise)
        white = solve_triangular(factor, standardised, lower=True, check_finite=False)
        self._explained = solve_triangular(factor, similar, lower=True, overwrite_b=True, check_finite=False)
        self._scale = max(float(white @ white) / len(known), np.finfo(np.float64).tiny)
        self.mean = self._center + self._unit * (white @ self._explained)
        self.best = float(targets.max())
        self._left = 1.0 - np.einsum("ij,ij->j", self._explained, self._explained)
        self._n_rows = len(known)

    @property
    def deviation(self) -> Floats:
        """Of the values without noise, [n]."""
        deviation: Floats = self._unit * np.sqrt(self._scale * np.maximum(self._left, 0.0))
        return deviation

    def believe(self, candidates: Indices) -> None:
        """Takes the candidates' expected values for results."""
        if not len(candidates):
            return
        above = self._explained[: self._n_rows]
        between = self._similar(self._space.distances(candidates)) - above[:, candidates].T @ above
        factor, _ = _factor(between[:, candidates], self._noise)
        new = solve_triangular(factor, between, lower=True, overwrite_b=True, check_finite=False)
        self._left -= np.einsum("ij,ij->j", new, new)
        self._append(new)
        self.best = max(self.best, float(self.mean[candidates].max()))

    def _append(self, rows: Floats) -> None:
        """Below the others; room is made for many at once."""
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
    """Which results to learn from, ascending: all of up to `most`, else the best half of so many and others evenly.

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
    """The lower Cholesky factor of matrix + noise I, and the noise, which is raised until there is a factor."""
    for more in _MORE_NOISE:
        with_noise = matrix.copy()
        with_noise.flat[:: len(matrix) + 1] += more * noise
        try:
            return cholesky(with_noise, lower=True, overwrite_a=True, check_finite=False), more * noise
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError(f"distances of {len(matrix)} candidates are of no Gaussian process")
