"""The rules of early stopping: pure, from scores alone."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, norm

from aquasurf_ray.driver.run.stop_rules import CHANCE, ENOUGH, curves_rule, median_rule
from aquasurf_ray.surrogate.learning_curves import PASSING

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=12)


@given(st.integers(1, 400), SCORES)
def test_a_rule_asks_for_the_median_after_a_quarter_and_a_half_once_there_are_five(epochs, scores):
    rule = median_rule(epochs, lambda _: [(score, None) for score in scores])
    if len(scores) < ENOUGH or epochs == 1:
        assert rule is None
        return
    asked = [epoch for epoch, _ in rule.thresholds]
    assert all(epoch < epochs for epoch in asked), "the last epoch ends a training anyway"
    assert set(asked) == {math.ceil(epochs / 4), math.ceil(epochs / 2)}
    assert {threshold for _, threshold in rule.thresholds} == {median(scores)}


def test_each_epoch_has_its_own_median_and_half_of_the_trainings_would_have_passed():
    curves = [[i, 2 * i, 3 * i, 4 * i] for i in range(7)]
    rule = median_rule(4, lambda epoch: [(curve[epoch - 1], curve[-1]) for curve in curves])
    assert rule.thresholds == ((1, 3), (2, 6))
    ended = [i for i, curve in enumerate(curves) if any(rule.verdict(e, s, 4) for e, s in enumerate(curve, start=1))]
    assert ended == [0, 1, 2]


def test_an_epoch_that_few_have_reached_is_not_asked_for():
    rule = median_rule(8, lambda epoch: [(0.5, 0.6)] * (6 if epoch <= 2 else 4))
    assert [epoch for epoch, _ in rule.thresholds] == [2]


def test_a_median_that_is_infinite_stops_nobody():
    assert median_rule(8, lambda _: [(-math.inf, 0.1)] * 5) is None


RNG = np.random.default_rng(1)
CURVES = [
    RNG.uniform(0.2, 0.9) * (1 - np.exp(-np.arange(1, 9) / 2)) + RNG.normal(scale=0.02, size=8) for _ in range(40)
]


def test_the_curves_rule_asks_for_a_chance_to_become_the_best():
    known = {epoch: [(curve[epoch - 1], curve[-1]) for curve in CURVES] for epoch in (2, 4)}
    rule = curves_rule(8, known.__getitem__)
    assert rule.pauses
    for epoch, threshold in rule.thresholds:
        early, final = np.array(known[epoch]).T
        half = early >= np.median(early)
        line = linregress(early[half], final[half])
        deviation = np.std(final[half] - line.intercept - line.slope * early[half]) * np.sqrt(
            half.sum() / (half.sum() - 2)
        )
        needed = (norm.ppf(CHANCE, scale=deviation) + final.max() - line.intercept) / line.slope
        assert threshold == pytest.approx(min(needed, np.quantile(early, PASSING)))


def test_the_best_quarter_passes_whatever_the_line_says():
    flat = [(score, 0.5 + score / 1000) for score in np.linspace(0, 1, 20)] + [(0.1, 0.9)]
    rule = curves_rule(4, lambda _: flat)
    passing = np.quantile([early for early, _ in flat], PASSING)
    assert [threshold for _, threshold in rule.thresholds] == pytest.approx([passing, passing])


@given(st.integers(1, 400), st.lists(st.tuples(st.floats(-1e6, 1e6), st.none() | st.floats(-1e6, 1e6)), max_size=30))
def test_the_curves_rule_never_stops_the_best_of_those_it_has_seen(epochs, scores):
    rule = curves_rule(epochs, lambda _: scores)
    if rule is not None:
        best = max(early for early, _ in scores)
        assert all(rule.verdict(epoch, best, epochs) is None for epoch, _ in rule.thresholds)


def test_paused_trainings_have_no_final_score_and_do_not_move_the_line():
    known = [(curve[1], curve[-1]) for curve in CURVES]
    low = [(0.0, None)] * 3
    (_, with_low), (_, without) = (curves_rule(4, lambda _, f=f: f).thresholds[0] for f in (known + low, known))
    quantiles = [np.quantile([early for early, _ in f], PASSING) for f in (known + low, known)]
    assert with_low == without or (with_low, without) == pytest.approx(quantiles)
