"""Compiled distances are SciPy's, and each is the same to the last bit whatever is computed beside it."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from aquasurf_ray.surrogate import row_distances as module
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace
from aquasurf_ray.surrogate.neighbors import Metric
from aquasurf_ray.surrogate.pairs import space_of_pairs
from aquasurf_ray.surrogate.row_distances import LANES, row_distances

KINDS: list[tuple[Metric, str]] = [("euclidean", "euclidean"), ("manhattan", "cityblock")]


def rows_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize(("metric", "by"), KINDS)
@pytest.mark.parametrize("d", [1, LANES - 1, LANES, 3 * LANES + 5])
def test_distances_are_scipys(metric: Metric, by: str, d: int) -> None:
    rows, some, others = rows_of(80, d), np.arange(0, 80, 2), np.arange(79, 0, -3)
    expected = cdist(rows[some].astype(np.float64), rows[others].astype(np.float64), by)
    np.testing.assert_allclose(row_distances(rows, some, others, metric), expected, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_a_distance_does_not_depend_on_its_company(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(60, 200)
    everyone = np.arange(60)
    together = row_distances(rows, everyone, everyone, metric)
    np.testing.assert_array_equal(together, together.T)
    for i in (0, 17, 59):
        np.testing.assert_array_equal(row_distances(rows, everyone[[i]], everyone[::-3], metric)[0], together[i, ::-3])
    monkeypatch.setattr(module, "_LEAST_WORK", 1)
    monkeypatch.setattr(module, "_n_threads", lambda: 3)
    np.testing.assert_array_equal(row_distances(rows, everyone, everyone, metric), together)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_rows_that_are_read_only_missing_or_not_there(metric: Metric) -> None:
    rows, everyone = rows_of(20, 70), np.arange(20)
    expected = row_distances(rows, everyone, everyone, metric)
    rows.flags.writeable = False
    np.testing.assert_array_equal(row_distances(rows, everyone, everyone, metric), expected)
    broken = rows.copy()
    broken[3, 69] = np.nan
    found = row_distances(broken, everyone, everyone, metric)
    assert np.isnan(found[:, 3]).all()
    assert np.isnan(found[3]).all()
    present = np.delete(everyone, 3)
    np.testing.assert_array_equal(found[np.ix_(present, present)], expected[np.ix_(present, present)])
    assert row_distances(rows, everyone[:0], everyone, metric).shape == (0, 20)
    assert row_distances(rows, everyone, everyone[:0], metric).shape == (20, 0)


def test_rows_that_do_not_exist_are_refused() -> None:
    rows = rows_of(3, 5)
    np.testing.assert_array_equal(
        row_distances(rows, np.array([-1]), np.array([0]), "manhattan"),
        row_distances(rows, np.array([2]), np.array([0]), "manhattan"),
    )
    for some, others in ((np.array([3]), np.array([0])), (np.array([0]), np.array([1000]))):
        with pytest.raises(IndexError):
            row_distances(rows, some, others, "manhattan")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_WORK", 1)
    monkeypatch.setattr(module, "_n_threads", lambda: 2)
    rows, everyone = rows_of(30, 40), np.arange(30)
    expected = row_distances(rows, everyone, everyone, "manhattan")
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends it if it waits for ever
        same = np.array_equal(row_distances(rows, everyone, everyone, "manhattan"), expected)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("wanted", "available", "expected"), [("1", 8, 1), ("4", 2, 2), ("", 3, 3), ("auto", 3, 3)])
def test_threads_are_those_that_other_libraries_may_use(
    wanted: str, available: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: range(available))
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert module._n_threads() == expected


@pytest.mark.parametrize("kept", [False, True])
def test_distances_between_some_are_those_of_whole_rows(kept: bool) -> None:
    outputs, spectra = rows_of(40, 30), rows_of(40, 65, seed=1)
    spectra[[4, 9]] = np.nan
    features = [FeatureDistances(outputs, "euclidean"), FeatureDistances(spectra, "manhattan")]
    rng = np.random.default_rng(2)
    for space in (MetricSpace(features, (0.3, 0.7)), space_of_pairs(features, (0.3, 0.7), (-1.0, 0.0, 2.0))):
        n = len(space)
        for some, others in (
            (rng.permutation(n)[:6], rng.permutation(n)[:15]),
            (np.array([4, 5]), np.array([5, 4, 5])),
        ):
            fresh = MetricSpace(space.features, space.balances)
            expected = space.distances(some)[:, others]
            if not kept:
                for feature in features:
                    feature._kept.clear()
            np.testing.assert_array_equal(fresh.between(some, others), expected)
