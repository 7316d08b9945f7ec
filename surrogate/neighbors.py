"""Exact nearest neighbours of all points among themselves, without all exact distances.

Invariant: the result equals that of comparing every pair, the point itself first; the choice among equal distances is
deterministic but arbitrary. A cheap lower bound of every distance selects a few contenders for each point, and their
exact distances are computed. The k nearest contenders are certified if none of the points left out has a smaller bound;
a point that fails the certificate is compared with all. Spectra are sorted quantiles, so neighbouring columns differ
alike and the bound is tight.

The embedding is built on these neighbours. Distances are float64 sums of float32 terms, the arithmetic of umap-learn's
metrics, so that the graphs equal those of umap-learn to the last bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Metric = Literal["euclidean", "manhattan"]
Floats = NDArray[np.float32]
Distances = NDArray[np.float64]
Indices = NDArray[np.int64]

_SPARE_CONTENDERS = 24  # beyond k: on real features nearly every point is certified
_COARSE_COLUMNS = 64  # sums of neighbouring columns: all pairs are compared in 64 columns instead of thousands
_CHUNK_ELEMENTS = 2**24  # of an intermediate array: 64 MB in float32


def nearest_neighbors(points: Floats, k: int, metric: Metric) -> tuple[Indices, Distances]:
    """Return the k nearest points of each point, itself first.

    Args:
        points: float32 [n, d], finite.
        k: the number of neighbours, the point itself included, 1 <= k <= n.
        metric: "euclidean" or "manhattan".

    Returns:
        indices int64 [n, k] and distances float64 [n, k], nearest first.

    >>> indices, distances = nearest_neighbors(np.array([[0.0], [1.0], [3.0]], dtype=np.float32), 2, "manhattan")
    >>> indices.tolist(), distances.tolist()
    ([[0, 1], [1, 0], [2, 1]], [[0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    """
    n = len(points)
    rows_at_once = max(1, _CHUNK_ELEMENTS // (8 * n))
    coarse = _coarse(points) if metric == "manhattan" else points.astype(np.float64)
    blocks = [
        _neighbors_of_rows(points, coarse, np.arange(start, min(start + rows_at_once, n)), k, metric)
        for start in range(0, n, rows_at_once)
    ]
    return np.concatenate([indices for indices, _ in blocks]), np.concatenate([distances for _, distances in blocks])


def _neighbors_of_rows(
    points: Floats, coarse: Distances, rows: Indices, k: int, metric: Metric
) -> tuple[Indices, Distances]:
    n = len(points)
    n_contenders = min(n, k + _SPARE_CONTENDERS)
    bound = _manhattan_bound(coarse, rows) if metric == "manhattan" else _euclidean_bound(coarse, rows)
    bound[np.arange(len(rows)), rows] = -1.0  # a point is always its own contender
    order = np.argpartition(bound, n_contenders - 1, axis=1)[:, :n_contenders]
    indices, distances = _k_nearest(points, rows, order, k, metric)
    # The certificate: no point that was left out has a bound below the k-th distance.
    if n_contenders < n:
        np.put_along_axis(bound, order, np.inf, axis=1)
        for row in np.flatnonzero(distances[:, -1] > bound.min(axis=1)):
            everyone = np.arange(n)[None, :]
            indices[row], distances[row] = _k_nearest(points, rows[row : row + 1], everyone, k, metric)
    return indices, distances


def _k_nearest(points: Floats, rows: Indices, contenders: Indices, k: int, metric: Metric) -> tuple[Indices, Distances]:
    """Return the k nearest of each row's contenders [rows, m] by exact distance."""
    distances = exact_distances(points, rows, contenders, metric)
    distances[contenders == rows[:, None]] = -1.0  # a point comes before its duplicates
    order = np.lexsort((contenders, distances), axis=1)[:, :k]
    nearest = np.take_along_axis(distances, order, axis=1)
    return np.take_along_axis(contenders, order, axis=1), np.maximum(nearest, 0.0)


def exact_distances(points: Floats, rows: Indices, others: Indices, metric: Metric) -> Distances:
    """Return the distances of points[rows] to points[others], others int [len(rows), m]: float64 [len(rows), m]."""
    result = np.empty(others.shape)
    step = max(1, _CHUNK_ELEMENTS // (others.shape[1] * points.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = points[others[part]]
        difference -= points[rows[part], None, :]
        if metric == "manhattan":
            result[part] = np.abs(difference, out=difference).sum(axis=2, dtype=np.float64)
        else:
            np.multiply(difference, difference, out=difference)
            result[part] = np.sqrt(difference.sum(axis=2, dtype=np.float64))
    return result


def _coarse(points: Floats) -> Distances:
    """Return sums of neighbouring columns; |sum of differences| never exceeds the sum of |differences|."""
    width = max(1, -(-points.shape[1] // _COARSE_COLUMNS))
    sums: Distances = np.add.reduceat(points, np.arange(0, points.shape[1], width), axis=1, dtype=np.float64)
    return sums


def _manhattan_bound(coarse: Distances, rows: Indices) -> Distances:
    bound: Distances = cdist(coarse[rows], coarse, "cityblock")
    return bound * (1 - 1e-6)  # the exact distances round in float32


def _euclidean_bound(points: Distances, rows: Indices) -> Distances:
    """Return sqrt(|x|^2 + |y|^2 - 2 x.y) less the rounding error that the cancellation can leave."""
    squares = np.einsum("ij,ij->i", points, points)
    scale = squares[rows, None] + squares[None, :]
    rounding = 4 * points.shape[1] * np.finfo(np.float64).eps * scale
    squared = scale - 2 * (points[rows] @ points.T) - rounding
    bound: Distances = np.sqrt(np.maximum(squared, 0.0))
    return bound * (1 - 1e-6)
