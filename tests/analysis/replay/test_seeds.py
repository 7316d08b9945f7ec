"""Searches that train some functions with a second seed: equal numbers of trainings, a judge that chose nothing, and
the knowledge gradient against an integral of SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import second_seeds
from scipy.integrate import quad
from scipy.stats import norm
from synthetic_benchmark import make_benchmark

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.seeds import RULES, Called, SeedSearch, expected_gain, last_part, replayed

EVALUATIONS = 15


@pytest.fixture(scope="module")
def benchmark():
    return make_benchmark(60)


def searched(benchmark, name, run=3):
    search = SeedSearch(benchmark, run)
    search.search(RULES[name][0], EVALUATIONS)
    return search


@pytest.mark.parametrize("name", RULES)
def test_every_rule_spends_the_same_and_keeps_the_judge_out(benchmark, name):
    search = searched(benchmark, name)
    assert sum(map(len, search.seen.values())) == EVALUATIONS + len(benchmark.baselines)
    assert max(map(len, search.seen.values())) <= 2
    called = RULES[name][1](search)
    found = search.called(called)
    rows = benchmark.seed_scores[called]
    assert found.promised == pytest.approx(np.mean(search.seen[called]))
    unseen = [score for score in rows if score not in search.seen[called]]
    assert found.judged in unseen
    assert found.test == pytest.approx(found.judged - 0.02), "the same training's"
    assert found == replayed(benchmark, 3, EVALUATIONS)[name]


def test_the_last_part_goes_to_the_best_functions_that_were_trained_once(benchmark):
    search = SeedSearch(benchmark, 0)
    search.search(last_part(0.4), 10)  # the last four of ten
    twice = {function for function, seen in search.seen.items() if len(seen) == 2}
    before = SeedSearch(benchmark, 0)
    before.search(RULES["one seed, best score"][0], 6)
    assert len(twice) == 4
    assert before.by_mean()[0] in twice
    assert set(before.seen) == set(search.seen), "the first six trainings are the same"


def test_all_rules_of_a_run_see_the_same_first_seeds(benchmark):
    one, other = (searched(benchmark, name) for name in ("one seed, best score", "every fourth again"))
    shared = set(one.seen) & set(other.seen)
    assert len(shared) > len(benchmark.baselines)
    assert all(one.seen[function][0] == other.seen[function][0] for function in shared)


def test_three_seeds_are_needed():
    with pytest.raises(AnalysisError, match="has 2 seeds; 3 are needed"):
        SeedSearch(make_benchmark(30, seeds=2), 0)


@pytest.mark.parametrize(("mean", "deviation", "rival"), [(0.2, 0.5, 0.9), (1.4, 0.3, 0.9), (0.9, 0.7, 0.9)])
def test_the_expected_gain_is_that_of_an_integral(mean, deviation, rival):
    expected, _ = quad(lambda m: max(m, rival) * norm.pdf(m, mean, deviation), mean - 10, mean + 10, points=[rival])
    found = expected_gain(np.array([mean]), np.array([deviation]), np.array([rival]))
    assert found == pytest.approx([expected - max(mean, rival)], abs=1e-7)


def test_what_cannot_change_gains_nothing():
    assert expected_gain(np.array([0.5, 0.9]), np.zeros(2), np.array([0.9, 0.9])).tolist() == [0.0, 0.0]


def test_the_summary_compares_run_by_run_and_puts_divergence_below_all():
    first = [Called(0.9, judged, judged - 0.1, 0) for judged in (0.5, 0.6, 0.7, np.nan)]
    other = [Called(0.8, judged, judged - 0.1, 2) for judged in (0.6, 0.6, np.nan, 0.2)]
    found = second_seeds.summary({"a": first, "b": other})
    assert found["a"]["lost"] == pytest.approx(0.3)
    assert found["a"]["diverged"] == found["b"]["diverged"] == 1
    assert (found["b"]["better"], found["b"]["worse"]) == (0.5, 0.25)
    assert found["b"]["second seeds"] == 2
    assert "p" not in found["a"]
