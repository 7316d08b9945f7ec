"""Regressors: KNR against a slow oracle and scikit-learn, the others by what any of them must do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import neighbors
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.regressors import REGRESSORS, KNeighborsRegressor, make_regressor


def weighted_mean_oracle(points: np.ndarray, scores: np.ndarray, query: np.ndarray, k: int) -> float:
    """Inverse distance weighting in plain Python."""
    nearest = sorted(
        (float(np.hypot(*(point - query))), float(score)) for point, score in zip(points, scores, strict=True)
    )
    nearest = nearest[:k]
    hits = [score for distance, score in nearest if distance == 0]
    if hits:
        return sum(hits) / len(hits)
    return sum(score / distance for distance, score in nearest) / sum(1 / distance for distance, _ in nearest)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_knr_is_the_inverse_distance_mean(m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, scores = rng.normal(size=(m, 2)), rng.normal(size=m)
    queries = np.concatenate([rng.normal(size=(20, 2)), points])
    expected = [weighted_mean_oracle(points, scores, query, k) for query in queries]
    np.testing.assert_allclose(
        KNeighborsRegressor(k).fit(points, scores).predict(queries), expected, rtol=1e-9, atol=1e-12
    )


def test_knr_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    points, scores, queries = rng.normal(size=(300, 2)), rng.uniform(size=300), rng.normal(size=(5000, 2))
    theirs = neighbors.KNeighborsRegressor(3, weights="distance").fit(points, scores).predict(queries)
    np.testing.assert_allclose(make_regressor("knr").fit(points, scores).predict(queries), theirs, rtol=1e-9)


def test_knr_averages_exact_hits() -> None:
    points = np.array([[0.0, 0.0], [0.0, 0.0], [1e-9, 0.0]])
    knr = KNeighborsRegressor(3).fit(points, np.array([1.0, 2.0, 100.0]))
    assert knr.predict(np.zeros((1, 2))).tolist() == [1.5]


def test_knr_survives_distances_whose_inverse_overflows() -> None:
    knr = KNeighborsRegressor(2).fit(np.array([[1e-150, 0.0], [3e-150, 0.0]]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(knr.predict(np.zeros((1, 2))), [0.25])
    knr = KNeighborsRegressor(2).fit(np.array([[5e-324, 0.0], [1.0, 0.0]]), np.array([3.0, 1.0]))
    np.testing.assert_allclose(knr.predict(np.zeros((1, 2))), [3.0])


def test_knr_keeps_ties_exact() -> None:
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(50, 2)), rng.normal(size=(1000, 2))
    assert set(KNeighborsRegressor(3).fit(points, np.full(50, 0.1)).predict(queries).tolist()) == {0.1}


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("m", [1, 2, 3])
def test_few_points(name: str, m: int) -> None:
    points = np.arange(2.0 * m).reshape(m, 2)
    predictions = make_regressor(name).fit(points, np.linspace(0.2, 0.4, m)).predict(np.ones((7, 2)))
    assert predictions.shape == (7,)
    assert ((predictions >= 0.1) & (predictions <= 0.5)).all()


@pytest.mark.parametrize("name", REGRESSORS)
def test_equal_points_and_equal_scores(name: str) -> None:
    predictions = make_regressor(name).fit(np.ones((5, 2)), np.full(5, 0.7)).predict(np.zeros((3, 2)))
    np.testing.assert_allclose(predictions, 0.7)


@pytest.mark.parametrize("name", REGRESSORS)
def test_learns_a_smooth_landscape(name: str) -> None:
    """Accuracies within a tenth of one another, which scikit-learn's SVR on raw scores would flatten."""
    rng = np.random.default_rng(0)
    points, queries = rng.uniform(-3, 3, size=(300, 2)), rng.uniform(-2.5, 2.5, size=(500, 2))

    def landscape(x: np.ndarray) -> np.ndarray:
        return 0.6 + 0.05 * np.sin(x[:, 0]) * np.cos(x[:, 1])

    predicted = make_regressor(name).fit(points, landscape(points)).predict(queries)
    assert np.corrcoef(predicted, landscape(queries))[0, 1] > 0.9


@pytest.mark.parametrize("name", REGRESSORS)
def test_one_seed_one_prediction(name: str) -> None:
    rng = np.random.default_rng(0)
    points, scores, queries = rng.normal(size=(40, 2)), rng.normal(size=40), rng.normal(size=(100, 2))
    before = np.random.get_state()
    first, second = (make_regressor(name, seed=5).fit(points, scores).predict(queries) for _ in range(2))
    assert (first == second).all()
    after = np.random.get_state()
    assert before[2] == after[2]
    assert (before[1] == after[1]).all()


def test_forests_differ_by_seed() -> None:
    rng = np.random.default_rng(0)
    points, scores = rng.normal(size=(40, 2)), rng.normal(size=40)
    first, second = (make_regressor("rfr", seed).fit(points, scores).predict(points) for seed in (0, 1))
    assert (first != second).any()


def test_svr_is_scikit_learns_on_standardised_data() -> None:
    rng = np.random.default_rng(0)
    points, scores, queries = (
        rng.normal(3, 5, size=(50, 2)),
        rng.normal(0.9, 0.01, size=50),
        rng.normal(3, 5, size=(80, 2)),
    )
    theirs = TransformedTargetRegressor(make_pipeline(StandardScaler(), SVR()), transformer=StandardScaler())
    mine = make_regressor("svr").fit(points, scores).predict(queries)
    np.testing.assert_allclose(mine, theirs.fit(points, scores).predict(queries), rtol=1e-9)


def test_errors_name_what_was_received() -> None:
    with pytest.raises(SurrogateError, match=r"unknown regressor 'knn'; choose one of knr, rfr, svr, gp"):
        make_regressor("knn")
    with pytest.raises(SurrogateError, match="k is 0"):
        KNeighborsRegressor(0)
    with pytest.raises(SurrogateError, match=r"points have shape \(0, 2\)"):
        KNeighborsRegressor().fit(np.empty((0, 2)), np.empty(0))
