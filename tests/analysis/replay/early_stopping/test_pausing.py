"""Replayed searches that pause trainings: what they spend, what they resume, and what the summary says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pausing as script
import pytest
from synthetic_benchmark import make_benchmark

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.early_stopping.pausing import (
    FULL,
    RULES,
    PausingSearch,
    Rule,
    chance_of_best,
    quantile,
)

EPOCHS = 8


@pytest.fixture(scope="module")
def benchmark():
    """Curves rise to the final score; trainings that diverge do so in epoch 3."""
    plain = make_benchmark(80, seeds=1)
    rise = 1 - np.exp(-np.arange(1, EPOCHS + 1) / 2)
    curves = plain.seed_scores[:, :, None] * rise / rise[-1]
    curves[np.isnan(plain.seed_scores[:, 0]), :, :2] = 0.1
    return replace(plain, curves=curves)


def searched(benchmark, rule, epochs=10 * EPOCHS, run=3):
    search = PausingSearch(benchmark, run, rule)
    search.search(epochs)
    return search


def test_full_trainings_cost_all_epochs_and_diverged_ones_those_until_then(benchmark):
    search = searched(benchmark, RULES[FULL])
    costs = np.diff([0, *(each.epochs for each in search.found)])
    diverged = np.isnan(benchmark.seed_scores[[each.function for each in search.found], 0])
    assert costs.tolist() == np.where(diverged, 3, EPOCHS).tolist()
    assert search.paused == {}
    assert search.spent >= 10 * EPOCHS


@pytest.mark.parametrize("name", RULES)
def test_every_search_spends_what_it_says(benchmark, name):
    search = searched(benchmark, RULES[name])
    scores = benchmark.seed_scores[:, 0]
    whole = sum(3 if np.isnan(scores[each.function]) else EPOCHS for each in search.found)
    assert search.spent == whole + sum(search.paused.values())
    assert set(search.paused.values()) <= {2, 4}
    assert set(search.paused).isdisjoint(each.function for each in search.finished)
    assert set(search.paused) <= set(search.candidates)


def test_the_median_rule_pauses_what_is_below_the_median_of_all_so_far(benchmark):
    search = searched(benchmark, Rule(quantile(1 / 2)))
    baselines = {each.function for each in search.finished} - {each.function for each in search.found}
    curves, seen = benchmark.curves[:, 0], [f for f in search.begun if f in baselines]
    for function in search.begun[len(baselines) :]:
        seen.append(function)
        so_far = [curves[f, 1] for f in seen if np.isfinite(curves[f, 1])]
        if len(so_far) > 5 and np.isfinite(curves[function, 1]):
            assert (search.paused.get(function) == 2) == (curves[function, 1] < np.median(so_far))


def test_a_paused_training_is_resumed_without_its_first_epochs(benchmark):
    resumed = searched(benchmark, Rule(chance_of_best(0.3), resumes=True), 25 * EPOCHS)
    left = searched(benchmark, Rule(chance_of_best(0.3)), 25 * EPOCHS)
    assert left.paused
    again = {each.function for each in resumed.found} & set(left.paused)
    costs = dict(
        zip((e.function for e in resumed.found), np.diff([0, *(e.epochs for e in resumed.found)]), strict=True)
    )
    assert again
    assert all(costs[function] >= EPOCHS - left.paused[function] for function in again)
    assert resumed.spent == sum(
        3 if np.isnan(benchmark.seed_scores[e.function, 0]) else EPOCHS for e in resumed.found
    ) + sum(resumed.paused.values())


def test_curves_are_needed():
    with pytest.raises(AnalysisError, match="has no learning curves"):
        PausingSearch(make_benchmark(30), 0, RULES[FULL])


def test_the_summary_counts_a_goal_that_is_not_reached_as_the_budget():
    full = [script.Outcome(10.0, np.nan, 0.1, 20), script.Outcome(30.0, 40.0, 0.0, 20)]
    fast = [script.Outcome(5.0, 20.0, 0.0, 50), script.Outcome(9.0, 35.0, 0.0, 60)]
    first, second = script.summary({FULL: full, "fast": fast}, 50)
    assert (first["to top 1%"], first["never"], first["to top 0.1%"], first["never "]) == (20, 0, 45, 0.5)
    assert (second["to top 1%"], second["never "], second["functions"]) == (7, 0, 55)
    assert "p 1%" not in first
    assert second["p 1%"] == 0.5, "two pairs of one sign"


def test_the_table_has_a_row_for_each_rule(benchmark):
    document = script.document(benchmark, "all", runs=2, trainings=3)
    assert (document["runs"], document["trainings"], document["epochs"]) == (2, 3, benchmark.curves.shape[2])
    rows = [line.split("|")[1:3] for line in script.table([document, document]).splitlines()[2:]]
    assert [rule.strip() for _, rule in rows] == list(RULES) * 2
    assert {name.strip() for name, _ in rows} == {benchmark.name}
