"""A random forest with the very trees of scikit-learn's `RandomForestRegressor` of the same seed, at less overhead.

A search fits a hundred small trees before each suggestion. scikit-learn spends most of that time on clones, checks and
joblib's tasks; here one estimator grows all trees, which then predict directly. Trees, bootstrap samples and
predictions are the same, bit for bit: tests/surrogate/test_forest.py compares them.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.errors import SurrogateError

Array = NDArray[np.floating[Any]]
Predictions = NDArray[np.float64]

N_TREES = 100  # scikit-learn's default; all other settings are its defaults too
_MAX_SEED = np.iinfo(np.int32).max  # scikit-learn draws the seeds of a forest's trees below this number


class RandomForest:
    """The mean of trees (Breiman 2001), each grown to the end on a bootstrap sample, all columns at each split.

    Args:
        seed: the random seed of the trees and their samples.
        n_trees: the number of trees.
    """

    def __init__(self, seed: int, n_trees: int = N_TREES) -> None:
        if n_trees < 1:
            raise SurrogateError(f"n_trees is {n_trees}; a forest needs at least 1")
        drawn = np.random.RandomState(seed)
        self._seeds = [drawn.randint(_MAX_SEED) for _ in range(n_trees)]
        self._trees: list[Any] = []

    def fit(self, points: Array, scores: Array) -> Self:
        """Grow the trees from points [m, d] and their scores [m]; all finite, m >= 1."""
        from sklearn import config_context
        from sklearn.tree import DecisionTreeRegressor

        # The dtypes that scikit-learn's trees work in; `check_input=False` below means that nothing converts them.
        x, y = np.ascontiguousarray(points, dtype=np.float32), np.asarray(scores, dtype=np.float64)
        if x.ndim != 2 or y.shape != x.shape[:1] or not len(x):
            raise SurrogateError(f"points have shape {x.shape}, scores {y.shape}; expected (m, d) and (m,), m >= 1")
        m = len(y)
        sampling, splitting = np.random.RandomState(0), np.random.RandomState(0)  # seeded again for each tree
        grower = DecisionTreeRegressor(random_state=splitting)
        self._trees = []
        with config_context(skip_parameter_validation=True, assume_finite=True):
            for seed in self._seeds:
                sampling.seed(seed)
                splitting.seed(seed)
                # A bootstrap sample is a weight for each point: the number of times that it was drawn.
                times = np.bincount(sampling.randint(0, m, m), minlength=m).astype(np.float64)
                grower.fit(x, y, sample_weight=times, check_input=False)
                self._trees.append(grower.tree_)
        return self

    def predict(self, points: Array) -> Predictions:
        """Return the mean of the trees' predictions for points [n, d]: float64 [n]."""
        x = np.ascontiguousarray(points, dtype=np.float32)
        total = np.zeros(len(x))
        for tree in self._trees:
            total += tree.predict(x).reshape(-1)
        return total / len(self._trees)
