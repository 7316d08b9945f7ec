"""Pairs of a function and a rate: their distances, and what a Gaussian process learns from results at several rates."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from aquasurf_ray.surrogate.batches import fit_mixtures
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import LENGTHS, NOISES
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.pairs import WEIGHTS, space_of_pairs
from aquasurf_ray.surrogate.predictors import MetricProcess
from aquasurf_ray.surrogate.settings import AQUASURF, METRIC, policy_of

N, RATES = 30, (0.0, -np.log(2), np.log(2))
R = len(RATES)
ROWS = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


def features():
    return [FeatureDistances(ROWS, "euclidean")]


def space():
    return space_of_pairs(features(), (1.0,), RATES)


def chosen_balances(known, scores):
    balances, _ = fit_mixtures(space(), MetricProcess(weights=WEIGHTS).mixtures(space()), known, scores)
    return balances


def distances(weight):
    """All distances of pairs, from their definition."""
    apart = np.linalg.norm(ROWS[:, None] - ROWS[None], axis=2).astype(np.float64)
    apart /= np.median(apart[apart > 0])
    steps = np.abs(np.subtract.outer(RATES, RATES)) / np.log(2)  # log 2 is the median of log 2, log 2 and 2 log 2
    pairs = list(itertools.product(range(N), range(R)))
    return np.array([[apart[i, k] + weight * steps[j, m] for k, m in pairs] for i, j in pairs])


class Exponential(Kernel):
    """exp(-d / l) for points that are numbers of pairs, for scikit-learn."""

    def __init__(self, length, weight, scale):
        self.length, self.weight, self.scale = length, weight, scale

    def __call__(self, first, second=None, eval_gradient=False):
        second = first if second is None else second
        found = distances(self.weight)[np.ix_(first[:, 0].astype(int), second[:, 0].astype(int))]
        return self.scale * np.exp(-found / self.length)

    def diag(self, points):
        return np.full(len(points), self.scale)

    def is_stationary(self):
        return False


def results(rng, m=40, of_rate=1.0):
    """Some pairs and scores: smooth in the functions, and as different by rate as `of_rate` says."""
    known = np.sort(rng.permutation(N * R)[:m])
    smooth = ROWS[:, 0] + 0.5 * ROWS[:, 1]
    by_rate = of_rate * np.array([0.0, -3.0, 1.0])
    return known, (smooth[known // R] + by_rate[known % R]).astype(np.float64)


def test_the_distance_of_pairs_is_that_of_functions_and_a_weight_times_that_of_rates():
    made = space()
    assert made.distances(range(N * R)) == pytest.approx(distances(WEIGHTS[0]), abs=1e-5)
    assert made.distances(range(N * R), (1.0, 2.0)) == pytest.approx(distances(2.0), abs=1e-5)


def test_a_function_without_features_has_no_place_at_any_rate():
    rows = ROWS.copy()
    rows[3] = np.nan
    made = space_of_pairs([FeatureDistances(rows, "euclidean")], (1.0,), RATES)
    assert np.flatnonzero(~made.known).tolist() == [9, 10, 11]


def test_pairs_keep_their_numbers_when_functions_are_added():
    feature = FeatureDistances(ROWS[:20], "euclidean", n_for_median=20)
    before = space_of_pairs([feature], (1.0,), RATES).distances(range(20 * R))
    feature.extend(ROWS[20:])
    assert np.array_equal(space_of_pairs([feature], (1.0,), RATES).distances(range(20 * R))[:, : 20 * R], before)


def test_predictions_and_deviations_are_those_of_scikit_learns_gaussian_process():
    known, scores = results(np.random.default_rng(1))
    process, rows = MetricProcess("ei", weights=WEIGHTS).fitted(space(), known, scores)
    mean, deviation = process.predict_distances_with_deviation(rows)
    (weight,) = chosen_balances(known, scores)[1:]
    center, unit = scores.mean(), scores.std()
    kernel = Exponential(process.length, weight, process.variance)
    oracle = GaussianProcessRegressor(kernel, alpha=process.variance * process.noise, optimizer=None)
    oracle.fit(known[:, None], (scores - center) / unit)
    expected, spread = oracle.predict(np.arange(N * R)[:, None], return_std=True)
    assert mean == pytest.approx(center + unit * expected, abs=1e-3)
    assert deviation == pytest.approx(unit * spread, abs=1e-3)


@pytest.mark.parametrize("of_rate", [0.02, 3.0])
def test_the_weight_of_the_rate_is_the_one_of_the_largest_likelihood(of_rate):
    known, scores = results(np.random.default_rng(2), of_rate=of_rate)
    y = (scores - scores.mean()) / scores.std()

    def likelihood(weight):
        """The largest on the grid, of SciPy's normal distribution at the scale that makes it largest."""
        found = distances(weight)[np.ix_(known, known)]
        unit = np.median(found[np.triu_indices(len(found), 1)])
        best = -np.inf
        for length, noise in itertools.product(LENGTHS, NOISES):
            matrix = np.exp(-found / (length * unit)) + noise * np.eye(len(y))
            scale = y @ np.linalg.solve(matrix, y) / len(y)
            best = max(best, multivariate_normal(np.zeros(len(y)), scale * matrix).logpdf(y))
        return best

    chosen = chosen_balances(known, scores)
    assert chosen == (1.0, max(WEIGHTS, key=likelihood))
    assert chosen[1] in ((0.25,) if of_rate < 1 else (1.0, 2.0)), "rates that change nothing are near each other"


def test_without_results_at_other_rates_the_first_weight_holds():
    known = np.arange(0, N * R, R)
    assert chosen_balances(known, ROWS[:, 0].astype(float))[1] == WEIGHTS[0]


@pytest.mark.parametrize("n", [1, 5])
def test_a_policy_learns_that_a_rate_is_better_and_suggests_the_pairs_that_are(n):
    """Ten functions at all rates, the last of which is best; of two good functions that are left, only pairs of it."""
    policy = policy_of(replace(METRIC, features="outputs"), 0, features=features, values=RATES)
    truth = np.add.outer(ROWS[:, 0], [0.0, -2.0, 2.0]).ravel()
    order = np.argsort(-ROWS[:, 0])
    for function in [*order[1:3], *order[6:]]:
        for rate in range(R):
            policy.observe(int(function) * R + rate, float(truth[function * R + rate]))
    made = policy.suggest_batch(n) if n > 1 else [policy.suggest()]
    left = [int(function) * R + 2 for function in (order[0], *order[3:6])]
    assert {suggestion.candidate for suggestion in made[:4]} <= set(left)
    assert made[0].candidate % R == 2


def test_a_map_has_no_place_for_rates():
    with pytest.raises(SurrogateError, match="no place for a further input"):
        policy_of(AQUASURF, 0, embedding=lambda: None, values=RATES)


def test_pairs_learn_the_weight_of_the_rate_and_keep_equal_shares_of_features():
    with pytest.raises(SurrogateError, match="either the balance of two features or the weight of the last"):
        MetricProcess("ei", balances=(0.25, 0.75), weights=WEIGHTS)
    two = [*features(), FeatureDistances(ROWS[:, ::-1] ** 3, "manhattan")]
    known, scores = results(np.random.default_rng(3))
    suggested = []
    for balance in ("learned", "equal"):
        made = policy_of(replace(METRIC, balance=balance), 0, features=lambda: two, values=RATES)
        for pair, score in zip(known.tolist(), scores.tolist(), strict=True):
            made.observe(pair, score)
        suggested.append([suggestion.candidate for suggestion in made.suggest_batch(5)])
    assert suggested[0] == suggested[1]
