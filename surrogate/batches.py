"""Many suggestions from one fit: a Gaussian process that takes predicted scores for results, one block after the other.

A result that equals the expected value leaves the expectations of a Gaussian process unchanged and only reduces its
variance around the point (Ginsbourger et al. 2010, "Kriging believer"). So one fit is enough for all suggestions of a
batch and for the pending ones: each further point only reduces the variance of the others,

    var(x) -= k(c, x)² / (k(c, c) + v)          k: the posterior covariance, c: the point believed, v: the noise

which costs a row of the Cholesky factor instead of a new fit. No value rises by it, so what was computed earlier is an
upper bound, and only the few candidates that may be the best are computed to the end (a lazy greedy choice, Minoux
1978). Balances, length and noise are chosen on the results alone, and on a part of them where there are many. The
process learns from at most `MOST_RESULTS` results: one half are the best, the others an even draw of the rest, so that
a batch costs the same after two thousand results and after ten thousand.

Format: n candidates, m results, p points believed; everything by candidate is float64 [n].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from aquasurf_ray.surrogate.gaussian_process import (
    Acquisition,
    GaussianProcess,
    Kernel,
    covariance,
    merit,
    noisy_factor,
)
from aquasurf_ray.surrogate.metric_space import MetricSpace

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Balances = tuple[float, ...]
"""The factor of each feature of a metric space."""

MOST_RESULTS = 500
_MOST_CHOSEN_ON = 400  # results that balances, length and noise are chosen on
_MORE_NOISE = (1.0, 10.0, 100.0, 1e4)  # factors: a kernel rounded in float32, or not of negative type, may need more
_FEWEST_COLUMNS = 8
_GOLDEN = (5**0.5 - 1) / 2
_ROOM = 512  # for 256 suggestions and as many pending candidates, before anything is copied
_SLACK = 1e-6  # relative: rounding may lift a value above its bound by this much


class BelievingProcess:
    """A Gaussian process on a metric space, fitted to results, that can take expected values for results.

    Args:
        space: the space of the candidates.
        known: the candidates with results [m], m >= 1.
        targets: the values of the results [m].
        kernel: see `GaussianProcess`.
        counts: the number of trainings that each target is the mean of [m]; by default one.
        mixtures: the balances of the space to choose from; by default its own.
        acquisition: the acquisition function that suggestions are chosen by; "mean" has no use for believed results.

    Attributes:
        known: the candidates whose results it learned from, at most `MOST_RESULTS`.
        mean: expected values [n].
        best: the largest target or believed value.
    """

    def __init__(
        self,
        space: MetricSpace,
        known: Indices,
        targets: Floats,
        kernel: Kernel = "exponential",
        counts: Indices | None = None,
        mixtures: Sequence[Balances] = (),
        acquisition: Acquisition = "ei",
    ) -> None:
        chosen = chosen_results(known, targets, MOST_RESULTS)
        self.known = known = known[chosen]
        targets = targets[chosen]
        of_each: Floats = np.ones(len(known)) if counts is None else counts[chosen].astype(np.float64)
        # The grid takes 24 factorisations of O(m³) for each mixture, so it sees an even draw of the results only.
        drawn = np.linspace(0, len(known) - 1, min(len(known), _MOST_CHOSEN_ON)).astype(np.int64)
        balances, grid = fit_mixtures(
            space, mixtures or [space.balances], known[drawn], targets[drawn], of_each[drawn], kernel
        )
        self._space, self._balances, self._kernel, self._length = space, balances, kernel, grid.length
        self._acquisition: Acquisition = acquisition
        center, self._unit = float(targets.mean()), float(targets.std()) or 1.0
        similar = covariance(kernel, space.distances(known, balances), self._length)
        standardised = (targets - center) / self._unit
        factor, self._noise = _factor(similar[:, known], grid.noise, 1.0 / of_each)
        # With L Lᵀ = K + vI: white = L⁻¹y and explained = L⁻¹k(X, x) give all of s² = |white|² / m, the mean
        # explainedᵀ white, and the variance 1 - |explained|² (Rasmussen and Williams 2006, algorithm 2.1).
        white = _solved(factor, standardised)
        weights = _solved(factor, white, transposed=True)
        self.mean = center + self._unit * (weights @ similar)
        self.best = float(targets.max())
        self._scale = max(float(white @ white) / len(known), np.finfo(np.float64).tiny)
        self._columns = LazyColumns(similar, factor, self._covariances)
        self._merits = np.full(len(self.mean), np.inf)  # upper bounds
        self._update(np.arange(len(self.mean)))

    @property
    def deviation(self) -> Floats:
        """The standard deviation of the values without noise, [n]."""
        self._complete(np.arange(len(self.mean)))
        return self._deviation(self._columns.left)

    def best_of(self, open_: Mask, turn: Indices) -> int:
        """Return the open candidate of the largest merit; among equals, the one of the first turn.

        Without some of the rows a variance is too large, and so is the merit; what was believed since only reduces
        both. So earlier values are upper bounds, and only candidates whose bound reaches the largest value have to be
        computed.
        """
        candidates, at_once = np.flatnonzero(open_), _FEWEST_COLUMNS
        while True:
            merits = self._merits[candidates]
            top = merits.max()
            stale = self._columns.stale(candidates)
            if not (stale & (merits >= top - _SLACK * abs(top))).any():
                equal = candidates[merits == top]
                return int(equal[np.argmin(turn[equal])])
            # A column costs much alone and little among others, so the next best are computed with it.
            most = _largest(candidates[stale], merits[stale], at_once)
            self._complete(most)
            at_once *= 2

    def believe(self, candidates: Indices) -> None:
        """Take the candidates' expected values for results.

        Distances to candidates that lack a feature are not of negative type, so less than no variance may be left of a
        candidate; its row of the factor would be divided by the root of nearly nothing. It adds none.
        """
        if not len(candidates):
            return
        self._complete(candidates)
        above = self._columns.explained(candidates)
        # The posterior covariance of the candidates with each other gives the rows that they add to the factor.
        factor = noisy_factor(self._covariances(candidates, candidates) - above @ above.T, self._noise)
        # The square of a pivot is the noise and the variance left, which rounding in float32 may take below 0.
        if factor is not None and np.diagonal(factor).min() ** 2 > self._noise / 2:
            self._columns.append(candidates, above, factor)
        elif len(candidates) > 1:
            for candidate in candidates:
                self.believe(candidate[None])
        best = float(self.mean[candidates].max())
        if best > self.best:
            self.best = best
            self._update(np.arange(len(self.mean)))

    def _complete(self, candidates: Indices) -> None:
        """Compute the missing rows of these candidates' columns, and the merits: a merit is up to date where no row is
        missing, and an upper bound elsewhere."""
        missing = candidates[self._columns.stale(candidates)]
        if len(missing):
            self._columns.complete(missing)
            self._update(missing)

    def _covariances(self, some: Indices, others: Indices) -> Floats:
        return covariance(self._kernel, self._space.between(some, others, self._balances), self._length)

    def _update(self, candidates: Indices) -> None:
        deviation = self._deviation(self._columns.left[candidates])
        self._merits[candidates] = merit(self._acquisition, self.mean[candidates], deviation, self.best)

    def _deviation(self, left: Floats) -> Floats:
        deviation: Floats = self._unit * np.sqrt(self._scale * np.maximum(left, 0.0))
        return deviation


class LazyColumns:
    """The columns explained = L⁻¹k(X, x) of a growing Cholesky factor L; the rows of points that are appended are
    computed only for the columns that somebody asks for.

    Args:
        similar: the covariances of the first points X with all candidates, [r, n].
        factor: L of these points, [r, r].
        covariances: returns the covariances of some candidates [p] with others [k], [p, k].

    Attributes:
        left: what the rows computed so far leave of each candidate's variance, [n]: 1 - |explained|².
    """

    def __init__(self, similar: Floats, factor: Floats, covariances: Callable[[Indices, Indices], Floats]) -> None:
        self._covariances = covariances
        self._points = np.empty(0, dtype=np.int64)  # those that were appended
        self._n_first, n = similar.shape
        self._n_rows = self._n_first
        self._factor = np.zeros((self._n_rows + _ROOM, self._n_rows + _ROOM))
        # Memory that nobody writes to is not taken, so rows that are never computed cost nothing.
        self._explained = np.empty((n, self._n_rows + _ROOM))
        rows = _solved(factor, similar)
        self._explained[:, : self._n_rows] = rows.T
        self._done = np.full(n, self._n_rows)
        self.left = 1.0 - np.einsum("ij,ij->j", rows, rows)

    def stale(self, candidates: Indices) -> Mask:
        """Return whether rows are missing, for each of the candidates."""
        return np.asarray(self._done[candidates] < self._n_rows)

    def explained(self, candidates: Indices) -> Floats:
        """Return the complete columns of candidates, [len(candidates), r]."""
        return self._explained[candidates, : self._n_rows]

    def complete(self, candidates: Indices) -> None:
        """Compute the missing rows of these candidates' columns."""
        columns = candidates[self.stale(candidates)]
        if not len(columns):
            return
        done = self._done[columns]
        first = int(done.min())
        # At once for all columns, because every call costs more than a few numbers too many.
        similar = self._covariances(self._points[first - self._n_first :], columns)
        for start in np.unique(done).tolist():
            group = done == start
            self._extend(columns[group], start, similar[start - first :, group])

    def _extend(self, columns: Indices, start: int, similar: Floats) -> None:
        """Compute the rows from `start` of columns that have those before, from the covariances with their points."""
        end, before = self._n_rows, self._explained[:, :start]
        if 2 * len(columns) < len(before):  # copying the columns would cost more than computing too many
            known = self._factor[start:end, :start] @ before[columns].T
        else:
            known = (self._factor[start:end, :start] @ before.T)[:, columns]
        factor = self._factor[start:end, start:end]
        new = _solved(factor, similar - known)
        self._explained[columns, start:end] = new.T
        self.left[columns] -= np.einsum("ij,ij->j", new, new)
        self._done[columns] = end

    def append(self, points: Indices, above: Floats, factor: Floats) -> None:
        """Add candidates [p] to the points, with their rows of L, [p, r] and [p, p]."""
        start, end = self._n_rows, self._n_rows + len(points)
        if end > len(self._factor):
            more = ((0, end + _ROOM - len(self._factor)),)
            self._factor = np.pad(self._factor, more * 2)
            self._explained = np.pad(self._explained, ((0, 0), *more))
        self._factor[start:end, :start], self._factor[start:end, start:end] = above, factor
        self._points = np.concatenate([self._points, points])
        self._n_rows = end


def fit_mixtures(
    space: MetricSpace,
    mixtures: Sequence[Balances],
    known: Indices,
    scores: Floats,
    counts: NDArray[Any] | None = None,
    kernel: Kernel = "exponential",
) -> tuple[Balances, GaussianProcess]:
    """Return the balances of the space with the largest marginal likelihood, and the process fitted with them.

    Args:
        space: the space of the candidates.
        mixtures: the balances to choose from.
        known: the candidates with results [m].
        scores: their scores [m].
        counts: see `GaussianProcess.fit_distances`.
        kernel: see `GaussianProcess`.
    """
    among = space.mixed(known, known, mixtures)
    fits = [GaussianProcess(kernel).fit_distances(each, scores, counts) for each in among]
    return max(zip(mixtures, fits, strict=True), key=lambda fit: fit[1].log_likelihood)


def _largest(candidates: Indices, values: Floats, n: int) -> Indices:
    """Return the n candidates of the largest values, in any order."""
    return candidates if len(candidates) <= n else candidates[np.argpartition(-values, n - 1)[:n]]


def chosen_results(known: Indices, targets: Floats, most: int) -> Indices:
    """Return the results to learn from, ascending: all of up to `most`; else half of `most` are the best, and the other
    half are drawn from the rest, by the candidates' numbers alone, so that further results change few of them.

        >>> chosen_results(np.arange(8), np.array([5.0, 1.0, 2.0, 9.0, 3.0, 4.0, 0.0, 8.0]), 4).tolist()
        [0, 3, 5, 7]
    """
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(-targets, kind="stable")
    best, others = order[: most // 2], order[most // 2 :]
    # Multiples of the golden ratio, modulo 1, spread evenly (Knuth 1998, volume 3, section 6.4).
    turn = known[others] * _GOLDEN % 1.0
    drawn = others[np.argsort(turn, kind="stable")[: most - len(best)]]
    return np.sort(np.concatenate([best, drawn]))


def _solved(factor: Floats, right: Floats, *, transposed: bool = False) -> Floats:
    """Return L⁻¹b, or L⁻ᵀb, of a lower Cholesky factor L [m, m] and b [m] or [m, k]."""
    # LAPACK's own function, because most systems here are so small that SciPy's takes longer to look at its arguments.
    # It fails only for a zero on the diagonal, which a Cholesky factor does not have.
    solution, _ = lapack.dtrtrs(factor, right, lower=1, trans=int(transposed))
    return np.asarray(solution, dtype=np.float64)


def _factor(matrix: Floats, noise: float, shares: Floats) -> tuple[Floats, float]:
    """Return the lower Cholesky factor of matrix + noise I, and the noise, which is raised until there is a factor.

    `shares` are the shares of the noise that the points have, [m], in (0, 1]; the matrix has values from -1 to 1.
    """
    for more in _MORE_NOISE:
        factor = noisy_factor(matrix, more * noise * shares)
        if factor is not None:
            return factor, more * noise
    # A diagonal above the sums of its rows is enough for every matrix.
    most = len(matrix) / float(shares.min())
    factor = noisy_factor(matrix, most * shares)
    assert factor is not None  # noqa: S101 - by Gershgorin's theorem, all eigenvalues are positive
    return factor, most
