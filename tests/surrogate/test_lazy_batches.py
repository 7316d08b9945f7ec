"""Lazy batches make the choices of the plain way: all means and variances of all candidates, for every suggestion."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from aquasurf_ray.surrogate.batches import BelievingProcess
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace

N = 700


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(N, 5)) @ rng.normal(size=(5, 40))).astype(np.float32)
    return MetricSpace(
        [FeatureDistances(rows, "euclidean"), FeatureDistances(np.sort(np.abs(rows)), "manhattan")], (0.5, 0.5)
    )


def plain_choices(space, process, known, targets, pending, turn, n):
    """The choices by a dense inverse for each suggestion (Rasmussen and Williams 2006, 2.23 and 2.24)."""
    similar = np.exp(-space.distances(np.arange(N)).astype(np.float64) / process._length)
    y = (targets - targets.mean()) / targets.std()
    inverse = np.linalg.inv(similar[np.ix_(known, known)] + process._noise * np.eye(len(known)))
    mean = targets.mean() + targets.std() * (y @ inverse @ similar[known])
    scale = targets.std() ** 2 * (y @ inverse @ y) / len(y)
    taken, chosen = [*known, *pending], []
    for _ in range(n):
        inverse = np.linalg.inv(similar[np.ix_(taken, taken)] + process._noise * np.eye(len(taken)))
        deviation = np.sqrt(scale * (1 - np.einsum("in,ij,jn->n", similar[taken], inverse, similar[taken])))
        above = mean - max(targets.max(), *mean[taken[len(known) :]], -np.inf)
        merits = above * norm.cdf(above / deviation) + deviation * norm.pdf(above / deviation)
        if process._acquisition == "ucb":
            merits = mean + 2 * deviation
        merits[taken] = -np.inf
        best = np.flatnonzero(merits == merits.max())
        chosen.append(int(best[np.argmin(turn[best])]))
        taken.append(chosen[-1])
    return chosen


@pytest.mark.parametrize("n_results", [3, 100, 300])
@pytest.mark.parametrize("n_pending", [0, 40])
@pytest.mark.parametrize("acquisition", ["ei", "ucb"])
@pytest.mark.slow
def test_the_choices_are_those_of_the_plain_way(space, n_results, n_pending, acquisition):
    rng = np.random.default_rng(n_results + n_pending)
    drawn = rng.permutation(N)
    known, pending = np.sort(drawn[:n_results]), np.sort(drawn[n_results : n_results + n_pending])
    targets, turn = norm.ppf((rng.permutation(n_results) + 0.5) / n_results), rng.permutation(N)
    process = BelievingProcess(space, known, targets, acquisition=acquisition)
    expected = plain_choices(space, process, known, targets, pending.tolist(), turn, 24)
    process.believe(pending)
    open_ = np.ones(N, dtype=bool)
    open_[known] = open_[pending] = False
    chosen = []
    for _ in range(24):
        chosen.append(process.best_of(open_, turn))
        open_[chosen[-1]] = False
        process.believe(np.array(chosen[-1:]))
    assert chosen == expected


def test_few_candidates_are_computed_to_the_end(space):
    known = np.arange(0, N, 2)
    targets = -space.distances([1])[0, known].astype(np.float64)  # the best are near candidate 1
    process = BelievingProcess(space, known, targets)
    open_ = np.arange(N) % 2 == 1
    process.believe(np.array([process.best_of(open_, np.arange(N))]))
    process.best_of(open_, np.arange(N))
    assert process._columns.stale(np.flatnonzero(open_)).any()


def test_of_equal_candidates_the_first_turn_wins():
    # Candidates 2 and 3 are mirror images at equal distances from the results, 0 and 1.
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 2.0], [0.5, -2.0]], dtype=np.float32)
    space = MetricSpace([FeatureDistances(rows, "euclidean")])
    for turn in ([0, 1, 2, 3], [0, 1, 3, 2]):
        process = BelievingProcess(space, np.array([0, 1]), np.array([0.0, 1.0]))
        assert process.best_of(np.array([False, False, True, True]), np.array(turn)) == turn.index(2)
