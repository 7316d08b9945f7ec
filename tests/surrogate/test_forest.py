"""The forest against scikit-learn's own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.forest import RandomForest


@pytest.mark.parametrize(("m", "d"), [(1, 2), (2, 2), (60, 2), (60, 40)])
def test_predictions_are_scikit_learns(m: int, d: int) -> None:
    rng = np.random.default_rng(m + d)
    points, queries = rng.normal(size=(m, d)), rng.normal(size=(300, d))
    scores = np.where(rng.random(m) < 0.5, 0.1, rng.normal(size=m))  # as where half of the functions diverged
    for seed in (0, 7):
        theirs = RandomForestRegressor(random_state=seed).fit(points, scores)
        mine = RandomForest(seed).fit(points, scores)
        for asked in (queries, points):
            np.testing.assert_array_equal(mine.predict(asked), theirs.predict(asked))


def test_points_that_are_equal_in_one_column_or_twice_there() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4, size=(50, 3)).astype(np.float64)
    points[:, 1] = 1.0
    scores = rng.normal(size=50)
    theirs = RandomForestRegressor(random_state=3).fit(points, scores).predict(points + 0.4)
    np.testing.assert_array_equal(RandomForest(3).fit(points, scores).predict(points + 0.4), theirs)


def test_a_second_fit_forgets_the_first() -> None:
    rng = np.random.default_rng(0)
    points, scores = rng.normal(size=(20, 2)), rng.normal(size=20)
    forest = RandomForest(0, n_trees=5)
    again = forest.fit(points, scores).fit(points[:10], scores[:10]).predict(points)
    np.testing.assert_array_equal(again, RandomForest(0, n_trees=5).fit(points[:10], scores[:10]).predict(points))


def test_errors_name_what_was_received() -> None:
    with pytest.raises(SurrogateError, match="n_trees is 0"):
        RandomForest(0, n_trees=0)
    with pytest.raises(SurrogateError, match=r"points have shape \(3,\), scores \(3,\)"):
        RandomForest(0).fit(np.ones(3), np.ones(3))
