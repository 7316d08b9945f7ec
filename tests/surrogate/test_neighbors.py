"""Exact neighbours: the same as comparing every pair, whatever the bound leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from aquasurf_ray.surrogate import neighbors
from aquasurf_ray.surrogate.neighbors import nearest_neighbors

METRICS = {"euclidean": "euclidean", "manhattan": "cityblock"}


def brute_force(points: np.ndarray, k: int, metric: str) -> np.ndarray:
    everything = points.astype(np.float64)
    return np.sort(cdist(everything, everything, METRICS[metric]), axis=1)[:, :k]


def agrees_with_brute_force(points: np.ndarray, k: int, metric: str) -> None:
    indices, distances = nearest_neighbors(points, k, metric)
    np.testing.assert_allclose(distances, brute_force(points, k, metric), rtol=2e-6)
    exact = np.array([cdist(points[i : i + 1].astype(float), points[row].astype(float), METRICS[metric])[0]
                      for i, row in enumerate(indices)])  # fmt: skip
    np.testing.assert_allclose(distances, exact, rtol=2e-6)
    assert (indices[:, 0] == np.arange(len(points))).all()
    assert all(len(set(row)) == k for row in indices.tolist())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("columns", [1, 3, 64, 500])
def test_unstructured_points(metric: str, columns: int) -> None:
    agrees_with_brute_force(np.random.default_rng(columns).normal(size=(300, columns)).astype(np.float32), 15, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_sorted_rows_are_certified_without_comparing_all(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = (np.sort(rng.normal(size=(400, 1000)), axis=1) * rng.uniform(1, 3, size=(400, 1))).astype(np.float32)
    compared = []
    exact = neighbors.exact_distances
    monkeypatch.setattr(
        neighbors,
        "exact_distances",
        lambda p, rows, others, m: compared.append(others.size) or exact(p, rows, others, m),
    )
    agrees_with_brute_force(points, 3, metric)
    assert sum(compared) < 400 * 400 / 4


@pytest.mark.parametrize("metric", METRICS)
def test_duplicates_and_huge_scales(metric: str) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 40)) * 10.0 ** rng.uniform(-10, 15, size=(200, 1))
    points[100:150] = points[:50]
    points[150:] = points[0]
    agrees_with_brute_force(points.astype(np.float32), 7, metric)


@pytest.mark.parametrize("seed", range(5))
def test_near_copies_of_a_huge_point_are_told_apart(seed: int) -> None:
    """The matrix product cancels to noise here, so that only the bound's allowance for rounding finds the order."""
    rng = np.random.default_rng(seed)
    points = (1e15 * rng.uniform(0.5, 1, size=(1, 300))).astype(np.float32).repeat(50, axis=0)
    points[:, :8] += rng.integers(-2, 3, size=(50, 8)) * np.spacing(np.float32(1e15))
    agrees_with_brute_force(points, 4, "euclidean")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from(list(METRICS)))
def test_small_sets_with_ties(n: int, columns: int, seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, size=(n, columns)).astype(np.float32)
    agrees_with_brute_force(points, int(rng.integers(1, n + 1)), metric)
